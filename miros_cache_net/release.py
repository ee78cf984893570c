"""Which release of the package runs here."""

from __future__ import annotations

from functools import cache


@cache
def release() -> str:
    """The version that is installed; "" if none is, as in a copy of the sources."""
    from importlib import metadata

    try:
        return metadata.version("miros-cache-net")
    except metadata.PackageNotFoundError:
        return ""
