"""What the commands of the network share: settings, and where the log goes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from miros_cache_net.cli.cache_file import chosen_path, count_text
from miros_cache_net.cli.exits import PROGRAM

if TYPE_CHECKING:
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings import Settings

_MARK: Final = "_of_miros_cache_net"


def load_settings(file_path: str | None) -> Settings:
    """The settings for the cache file of a command, and the log to standard error at their level.

    Raises `SettingsError`, and `FileRefused` for a directory in the file's place.
    """
    from miros_cache_net.settings import Settings

    settings = Settings.load()
    if file_path is not None:
        settings = settings.for_file(chosen_path(file_path))
    log_to_stderr(settings.log_level)
    return settings


def silence_line(client: FleetClient) -> str:
    """Why nobody may have answered, and what to look at."""
    if client.up is not None and client.up.request_servers:
        hosts = count_text(client.up.request_servers, "host")
        return f"{hosts} connected, but no answer: do they have this key? compare `miros-cache-net key list`"
    place = f"with scope {client.place.scope!r} and document {client.place.document!r}"
    return f"nobody there: is `miros-cache-net node`, or a program with a CacheNode, running on any host {place}?"


def log_to_stderr(level: str, line: str = f"{PROGRAM}: %(levelname)s: %(message)s") -> None:
    """Send the project's log to standard error, from `level` on, each record as `line`; the last call counts."""
    log = logging.getLogger("miros_cache_net")
    for handler in [each for each in log.handlers if hasattr(each, _MARK)]:
        log.removeHandler(handler)
    handler = logging.StreamHandler()
    setattr(handler, _MARK, True)
    handler.setFormatter(logging.Formatter(line, "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
