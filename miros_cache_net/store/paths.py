"""The files beside the cache file: their paths, and their directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def beside(path: str, name: str) -> str:
    """The path of `name` in the directory of `path`."""
    return os.path.join(os.path.dirname(path), name)


@contextlib.contextmanager
def opened_directory(path: str) -> Iterator[int]:
    """A descriptor of the directory that contains `path`."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
