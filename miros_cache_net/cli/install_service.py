"""`miros-cache-net install-service`."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from miros_cache_net.cli.exits import PROGRAM, Exit
from miros_cache_net.cli.output import print_line
from miros_cache_net.cli.service_unit import NAME, SETTINGS, unit
from miros_cache_net.errors import CacheNetError, SettingsError

_UNITS: Final = "/etc/systemd/system"
#: What a service with ProtectHome cannot see.
_HOMES: Final = ("/home", "/root", "/run/user")


class NotInstalled(CacheNetError):
    """A program that installs the service failed; the message says which, and what it said."""


@click.command("install-service")
@click.option("--user", "of_user", is_flag=True, help="For your own systemd: no root, your own cache file and key.")
@click.option("--print", "only_print", is_flag=True, help="Print the unit, and change nothing.")
@click.option("--root", "under", metavar="DIR", default="/", help="Write below DIR: for an image of a system.")
def command(of_user: bool, only_print: bool, under: str) -> int:
    """Write a systemd unit that runs a node.

    The unit runs `node` as a user of its own, closed in as far as systemd can, starts it again when it ends, and has
    it end when it hangs. It reads keys and password as credentials, and settings from the file `environment` in
    /etc/miros-cache-net (with --user: ~/.config/miros-cache-net). The command makes the user, that directory and a
    key where they are missing, writes the unit, and says what to type next; it starts nothing. Run it again after an
    upgrade: what you have changed with `systemctl edit` stays.

    \b
    Examples:
      miros-cache-net install-service
      miros-cache-net install-service --user
      miros-cache-net install-service --print
    """
    text = unit(_command(of_user), of_user=of_user)
    if only_print:
        print(text, end="")
        return Exit.DONE
    root = Path(under)
    if not of_user and root == Path("/"):
        _need_root()
        _make_user()
    settings, units = _places(root, of_user)
    settings.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_key(settings / "keys")
    units.mkdir(parents=True, exist_ok=True)
    (units / f"{NAME}.service").write_text(text, encoding="utf-8")
    systemctl = "systemctl --user" if of_user else "systemctl"
    print_line(
        f"made {units / NAME}.service; settings belong into {settings / 'environment'}, MIROS_CACHE_AMQP_URL first"
    )
    print_line(f"next: {systemctl} daemon-reload && {systemctl} enable --now {NAME}")
    return Exit.DONE


def _places(root: Path, of_user: bool) -> tuple[Path, Path]:
    """The directories of its settings and of its unit."""
    if of_user:
        config = Path.home() / ".config"
        return config / NAME, config / "systemd" / "user"
    return root / SETTINGS.lstrip("/"), root / _UNITS.lstrip("/")


def _command(of_user: bool) -> str:
    """This installation, as ExecStart starts it."""
    python = sys.executable
    if not of_user and python.startswith(tuple(f"{home}/" for home in _HOMES)):
        raise SettingsError(
            f"{python} is in a home directory, which the service cannot see; install {PROGRAM} elsewhere "
            "(`python3 -m venv /opt/miros-cache-net`), or use --user"
        )
    if any(character in python for character in " \"'\\%$;\n"):
        raise SettingsError(f"{python!r}: systemd would read that path as another; install {PROGRAM} elsewhere")
    return f"{python} -m miros_cache_net"


def _need_root() -> None:
    if os.geteuid() != 0:
        raise SettingsError("only root can install a service for the machine; use sudo, or --user for one of your own")


def _make_user() -> None:
    try:
        pwd.getpwnam(NAME)
    except KeyError:
        words = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", f"/var/lib/{NAME}"]
        done = subprocess.run(
            [*words, "--shell", "/usr/sbin/nologin", NAME], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotInstalled(f"useradd cannot make the user {NAME}: {done.stderr.strip()}") from None


def _make_key(path: Path) -> None:
    from miros_cache_net.wire.keyring import new_key

    if not path.exists():
        made = new_key(path)
        print_line(f"made key {made} in {path}; copy it to every host, or put the fleet's key in its place")
