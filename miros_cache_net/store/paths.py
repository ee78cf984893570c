"""The names of what lies beside the cache file."""

from __future__ import annotations

import os


def beside(path: str, name: str) -> str:
    """The path of `name` in the directory of `path`."""
    return os.path.join(os.path.dirname(path), name)
