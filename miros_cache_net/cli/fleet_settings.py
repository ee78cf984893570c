"""What the network commands share: settings, and where the log goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from miros_cache_net.cli.cache_file import chosen_path, count_text
from miros_cache_net.cli.log_lines import log_to_stderr

if TYPE_CHECKING:
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings import Settings


def load_settings(file_path: str | None, **overrides: Any) -> Settings:
    """The settings for a command's cache file; also sends the log to standard error, at their level.

    `overrides`: the command's options by their names in `Settings`; None means not given.

    Raises `SettingsError`, and `FileRefused` if the file is a directory.
    """
    from miros_cache_net.settings import Settings

    settings = Settings.load(**overrides)
    if file_path is not None:
        settings = settings.for_file(chosen_path(file_path))
    log_to_stderr(settings.log_level, settings.log_format)
    return settings


def silence_line(client: FleetClient) -> str:
    """Why there may be no answer, and what to check."""
    if client.up is not None and client.up.request_servers:
        hosts = count_text(client.up.request_servers, "host")
        return f"{hosts} connected, but none answered: do they have this host's key? compare `miros-cache-net key list`"
    place = f"with scope {client.place.scope!r} and document {client.place.document!r}"
    return f"no host answered: does `miros-cache-net node`, or a program with a CacheNode, run on any host {place}?"
