"""`miros-cache-net key`: make and rotate keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from miros_cache_net.cli.cache_file import count_text, json_option
from miros_cache_net.cli.exits import Exit, printable, say
from miros_cache_net.cli.lazy import help_if_bare
from miros_cache_net.cli.output import print_json, print_table

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])


def keys_file_option(command: _Command) -> _Command:
    """The option ``--keys-file``, the same for all of them."""
    return click.option(
        "--keys-file", metavar="PATH", help="The key file.  Without it: the setting `keys_file` (see `settings`)."
    )(command)


@click.group("key", invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]...")
@click.pass_context
def command(ctx: click.Context) -> int:
    """Make and rotate keys.

    They encrypt what hosts tell each other.  All hosts of a fleet share one ring of keys, a file with one key a
    line.  The first key encrypts, all of them decrypt.  Keys are named by their id; no command ever shows a key.

    \b
    To change the key without losing a message:
      1. `key new` on one host; then bring the key file to every host
      2. `key promote ID` on every host
      3. `key remove OLD-ID` on every host

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
@click.option("--primary", is_flag=True, help="Let it encrypt at once.")
@json_option
def new(keys_file: str | None, primary: bool, as_json: bool) -> int:
    """Make a key and add it to the key file.

    The first key of a file encrypts.  A further one only decrypts until `key promote`, so that it can be
    brought to every host first.  The file is made if it is not there, closed to other users.

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
        click.echo(printable(f"made key {made} in {path}; next: bring this file to every host of the fleet"))
    elif ring[0].key_id == made:
        click.echo(printable(f"made key {made} in {path}; it encrypts from now on"))
    else:
        click.echo(
            printable(
                f"made key {made} in {path}, {count_text(len(ring), 'key')} now; next: bring this file to every host, "
                f"then run `miros-cache-net key promote {made}` on every host"
            )
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
@click.argument("key_id", metavar="ID")
@keys_file_option
def promote(key_id: str, keys_file: str | None) -> int:
    """Let the key ID encrypt from now on.

    Every host must have the key before any host does this.  Running nodes notice by themselves.

    \b
    Examples:
      miros-cache-net key promote 1f2e3d4c
    """
    from miros_cache_net.wire.keyring import promote as promote_key

    path, settings = _key_file(keys_file)
    promote_key(path, key_id)
    click.echo(printable(f"{key_id} encrypts from now on; the others in {path} still decrypt"))
    _warn_if_overruled(settings)
    return Exit.DONE


@command.command("remove")
@click.argument("key_id", metavar="ID")
@keys_file_option
def remove(key_id: str, keys_file: str | None) -> int:
    """Take the key ID out of the key file, for good.

    From then on this host does not understand what is encrypted with it.  The last key cannot be removed.

    \b
    Examples:
      miros-cache-net key remove 1f2e3d4c
    """
    from miros_cache_net.wire.keyring import list_keys
    from miros_cache_net.wire.keyring import remove as remove_key

    path, settings = _key_file(keys_file)
    remove_key(path, key_id)
    ring = list_keys(path)
    click.echo(
        printable(f"removed {key_id} from {path}; {count_text(len(ring), 'key')} left, {ring[0].key_id} encrypts")
    )
    _warn_if_overruled(settings)
    return Exit.DONE


def _key_file(given: str | None) -> tuple[Path, Settings]:
    from miros_cache_net.settings import Settings

    settings = Settings.load()
    return (settings.keys_file if given is None else Settings.load(keys_file=given).keys_file), settings


def _warn_if_overruled(settings: Settings) -> None:
    if settings.keys:
        say("note: keys given directly (MIROS_CACHE_KEYS or `keys`) overrule key files; unset them to use the file")
