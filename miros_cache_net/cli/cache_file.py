"""Which cache file a command works on, and the file's errors with what helps at a shell."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from miros_cache_net.cli.completing import files
from miros_cache_net.errors import DocumentError, FileRefused, PermissionRefused, SettingsError, StoreError
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.settings.known_names import warn_where_file_is_named
from miros_cache_net.settings.which_file import cache_path

_Command = TypeVar("_Command", bound=Callable[..., Any])


def file_option(command: _Command) -> _Command:
    """The option ``--file``, the same for every command that has one."""
    return click.option(
        "--file",
        "file_path",
        metavar="PATH",
        shell_complete=files,
        help="The cache file.  Without it: the setting `file` ($MIROS_CACHE_FILE), else .miros_rabbitmq_cache.json.",
    )(command)


def json_option(command: _Command) -> _Command:
    """The option ``--json``, the same for every command that prints data."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def chosen_path(given: str | None) -> Path:
    """The absolute path of the cache file: `given`, else the one that the settings name.  Warns of unknown variables.

    Raises `SettingsError`, and `FileRefused` for a directory.
    """
    if given == "":
        raise SettingsError("--file is empty; name the cache file")
    try:
        warn_where_file_is_named(given)
        path = cache_path(given)
    except OSError as error:
        raise SettingsError(f"{given or 'the cache file'}: not a usable path: {error}") from None
    if path.is_dir():
        raise FileRefused(f"{path} is a directory; name a file in it")
    return path


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Add to the block's errors what a user at a shell needs to know."""
    try:
        yield
    except PermissionRefused as error:
        raise PermissionRefused(f"{error.what} ({_who_may(path)})", mend=error.mend) from error
    except DocumentError as error:
        raise StoreError(str(error)) from error


def payload_json(payload: CacheReadPayload) -> dict[str, Any]:
    """What ``--json`` prints of a document: every field of `CacheReadPayload` by its name."""
    return payload._asdict()


def count_text(number: int, what: str) -> str:
    """``1 key``, ``2 keys``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _who_may(path: Path) -> str:
    """Who owns the file, or the directory if there is no file, and who asks."""
    place = path if os.path.lexists(path) else path.parent
    try:
        status = place.stat()
    except OSError:
        return f"you are {_user(os.geteuid())}"
    owner = f"{_user(status.st_uid)}:{_group(status.st_gid)}"
    return f"{place.name or place} is {stat.filemode(status.st_mode)} {owner}, you are {_user(os.geteuid())}"


def _user(number: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def _group(number: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)
