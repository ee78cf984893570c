"""The path of the cache file, for everything that opens one."""

from __future__ import annotations

import os

from miros_cache_net.settings.environment import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Final

#: The older library's name for it, in the working directory.
DEFAULT_FILE: Final = ".miros_rabbitmq_cache.json"


def cache_file(file_path: str | os.PathLike[str] | None) -> str:
    """The absolute path of a cache file; None: the setting `file`, else the older library's default name.

    Raises `SettingsError` if no file is named and the settings cannot be read.
    """
    path = os.path.expanduser(file_path or text_of("file") or DEFAULT_FILE)
    # Resolve links in the directory only: a link at the file itself is refused later.
    directory, name = os.path.split(path.rstrip("/"))
    return os.path.join(os.path.realpath(directory or "."), name)


def cache_path(file_path: str | os.PathLike[str] | None) -> Path:
    """As `cache_file`."""
    from pathlib import Path  # a chart starts faster without it

    return Path(cache_file(file_path))
