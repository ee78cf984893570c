"""`miros-cache-net key`: make and rotate keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from miros_cache_net.cli.cache_file import count_text, file_option, json_option
from miros_cache_net.cli.completing import files, key_ids
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.lazy import help_if_bare
from miros_cache_net.cli.output import print_json, print_line, print_table
from miros_cache_net.errors import SettingsError

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])


def keys_file_option(command: _Command) -> _Command:
    """The option ``--keys-file``, the same for every subcommand."""
    return click.option(
        "--keys-file",
        metavar="PATH",
        shell_complete=files,
        help="The key file.  Without it: the setting `keys_file` (see `settings`).",
    )(command)


@click.group("key", invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]...")
@click.pass_context
def command(ctx: click.Context) -> int:
    """Make and rotate keys.

    Keys encrypt the messages between hosts.  All hosts of a fleet share one key ring, a file with one key per
    line.  The first key encrypts, all of them decrypt.  Keys are named by their ids; no command ever shows a key.

    \b
    To rotate the key without losing a message:
      1. `key new` on one host; then copy the key file to every host
      2. `key promote ID` on every host
      3. `key remove OLD-ID` on every host
    `key rotate --fleet` walks these steps, and goes on only while every host has come along.

    \b
    Examples:
      miros-cache-net key new
      ssh beta mkdir -p .config/miros-cache-net
      scp -p ~/.config/miros-cache-net/keys beta:.config/miros-cache-net/keys
      miros-cache-net key list
    """
    return help_if_bare(ctx)


@command.command("new")
@keys_file_option
@click.option("--primary", is_flag=True, help="Let the key encrypt at once.")
@json_option
def new(keys_file: str | None, primary: bool, as_json: bool) -> int:
    """Make a key and add it to the key file.

    The first key of a file encrypts.  A further one only decrypts until `key promote`, so that it can be
    copied to every host first.  A missing file is made, closed to other users.

    \b
    Examples:
      miros-cache-net key new
      miros-cache-net key new --keys-file /etc/miros-cache-net/keys
    """
    from miros_cache_net.wire.keyring import list_keys, new_key

    path, settings = _key_file(keys_file)
    made = new_key(path, primary=primary)
    ring = list_keys(path)
    if as_json:
        print_json({"key_id": made, "primary": ring[0].key_id == made, "keys_file": str(path)})
    elif len(ring) == 1:
        print_line(f"made key {made} in {path}; next: copy this file to every host of the fleet")
    elif ring[0].key_id == made:
        print_line(f"made key {made} in {path}; it encrypts from now on")
    else:
        print_line(
            f"made key {made} in {path}, {count_text(len(ring), 'key')} now; next: copy this file to every host, "
            f"then run `miros-cache-net key promote {made}` on every host"
        )
    _warn_if_overruled(settings)
    return Exit.DONE


@command.command("list")
@keys_file_option
@json_option
def list_(keys_file: str | None, as_json: bool) -> int:
    """List the keys of the ring by their ids.

    Two hosts understand each other if each has the other's encrypting key.

    \b
    Examples:
      miros-cache-net key list
      miros-cache-net key list --json
    """
    from miros_cache_net.wire.keyring import KeyRing, list_keys

    path, settings = _key_file(keys_file)
    if keys_file is None and settings.keys:
        ids, place = list(KeyRing(settings.load_keys()).ids), "MIROS_CACHE_KEYS"
    else:
        ids, place = [info.key_id for info in list_keys(path)], str(path)
    if as_json:
        print_json([{"key_id": key_id, "primary": key_id == ids[0], "from": place} for key_id in ids])
    else:
        say(f"{count_text(len(ids), 'key')} from {place}")
        print_table(("key", "does"), [(key_id, "encrypts" if key_id == ids[0] else "decrypts") for key_id in ids])
    return Exit.DONE


@command.command("promote")
@click.argument("key_id", metavar="ID", shell_complete=key_ids)
@keys_file_option
def promote(key_id: str, keys_file: str | None) -> int:
    """Let the key ID encrypt from now on.

    Every host must have the key before any host does this.  Running nodes notice the change by themselves.

    \b
    Examples:
      miros-cache-net key promote 1f2e3d4c
    """
    from miros_cache_net.wire.keyring import promote as promote_key

    path, settings = _key_file(keys_file)
    promote_key(path, key_id)
    print_line(f"{key_id} encrypts from now on; the others in {path} still decrypt")
    _warn_if_overruled(settings)
    return Exit.DONE


@command.command("remove")
@click.argument("key_id", metavar="ID", shell_complete=key_ids)
@keys_file_option
def remove(key_id: str, keys_file: str | None) -> int:
    """Take the key ID out of the key file, for good.

    From then on this host cannot decrypt what is encrypted with it.  The last key cannot be removed.

    \b
    Examples:
      miros-cache-net key remove 1f2e3d4c
    """
    from miros_cache_net.wire.keyring import list_keys
    from miros_cache_net.wire.keyring import remove as remove_key

    path, settings = _key_file(keys_file)
    remove_key(path, key_id)
    ring = list_keys(path)
    print_line(f"removed {key_id} from {path}; {count_text(len(ring), 'key')} left, {ring[0].key_id} encrypts")
    _warn_if_overruled(settings)
    return Exit.DONE


@command.command("rotate")
@click.argument("key_id", metavar="[ID]", required=False, shell_complete=key_ids)
@click.option("--fleet", is_flag=True, help="Rotate on all hosts together; required, because nothing is undone.")
@click.option(
    "--hosts", type=click.IntRange(min=1), metavar="N", help="The number of hosts; the rotation stops if fewer answer."
)
@click.option("--bring", metavar="COMMAND", help="A shell command to run after each change of the key file.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    metavar="S",
    default=600.0,
    show_default=True,
    help="How long to wait, in each step, for the key file to be on every host.",
)
@file_option
@keys_file_option
@json_option
@click.pass_context
def rotate(
    ctx: click.Context,
    /,
    key_id: str | None,
    fleet: bool,
    file_path: str | None,
    keys_file: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Change the fleet's key, step by step, together with every host.

    It makes a key, promotes it and removes the old ones, each in this host's key file.  After each step the file has
    to go to every host by a way of your own: by hand while it waits, or by the command that --bring names.  It asks
    the nodes of --file which keys they hold, and goes on when all of them have come along.
    It stops, with exit code 1, where a host no longer answers, where fewer than --hosts do, or where time is over.
    Nothing is lost then: all hosts understand each other after every step.  Called again with the new key's ID, it
    goes on where it stopped.

    \b
    Examples:
      miros-cache-net key rotate --fleet --hosts 3
      miros-cache-net key rotate --fleet --bring 'scp -p ~/.config/miros-cache-net/keys beta:.config/miros-cache-net/'
      miros-cache-net key rotate --fleet 1f2e3d4c
    """
    from miros_cache_net.cli.key_rotation import rotate_with_fleet

    if not fleet:
        raise click.UsageError("add --fleet; for one host alone use `key new`, `promote` and `remove`", ctx)
    path, settings = _key_file(keys_file)
    if settings.keys:
        raise SettingsError("keys given directly (MIROS_CACHE_KEYS or `keys`) cannot be rotated; use a key file")
    rotation = rotate_with_fleet(path, key_id, file_path, keys_file, **options)
    if as_json:
        print_json(rotation.report())
    return Exit.DONE if rotation.is_done else Exit.NO


def _key_file(given: str | None) -> tuple[Path, Settings]:
    from miros_cache_net.settings import Settings

    settings = Settings.load()
    return (settings if given is None else Settings.load(keys_file=given)).keys_path, settings


def _warn_if_overruled(settings: Settings) -> None:
    if settings.keys:
        say("note: keys given directly (MIROS_CACHE_KEYS or `keys`) override key files; unset them to use the file")
