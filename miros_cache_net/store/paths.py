"""Where the cache file is."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: What the older library names it, in the working directory.
DEFAULT_FILE: Final = ".miros_rabbitmq_cache.json"
FILE_VARIABLE: Final = "MIROS_CACHE_FILE"


def cache_file(file_path: str | os.PathLike[str] | None) -> str:
    """The absolute path of a cache file; None: ``$MIROS_CACHE_FILE``, else the older library's default name."""
    path = os.path.expanduser(file_path or os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)
    # the file itself may be a link, which is refused later; its directory may be reached through one
    directory, name = os.path.split(path.rstrip("/"))
    return os.path.join(os.path.realpath(directory or "."), name)


def beside(path: str, name: str) -> str:
    """The path of `name` in the directory of `path`."""
    return os.path.join(os.path.dirname(path), name)
