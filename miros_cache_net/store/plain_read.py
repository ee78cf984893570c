"""A single read of the file, for programs that do nothing else.  Imports next to nothing."""

from __future__ import annotations

import os
import time

from miros_cache_net.document.frozen import FrozenDict
from miros_cache_net.errors import DocumentError
from miros_cache_net.settings.which_file import cache_file
from miros_cache_net.store.snapshot import Snapshot, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from miros_cache_net.payloads import CacheReadPayload


def read_cache(file_path: str | os.PathLike[str] | None = None) -> CacheReadPayload:
    """The document at `file_path` (None: the setting `file`, else the default name), read once, without a lock.

    A missing file reads as an empty, expired document.  Raises `StoreError` if the file cannot be read,
    `DocumentError` if it contains no document, and `SettingsError` if no file is named and the settings cannot be
    read; nothing changes on the disk.
    """
    path = cache_file(file_path)
    try:
        snapshot, fd = read_file(path)
        os.close(fd)
    except FileNotFoundError:
        snapshot = _absent()
    except DocumentError as error:
        raise no_document(error, path) from None
    except OSError as error:
        from miros_cache_net.store.os_errors import store_error

        raise store_error(error, path) from error
    return snapshot.payload(path, time.time_ns() // 1_000_000)


def no_document(error: DocumentError, path: str | os.PathLike[str]) -> DocumentError:
    """The same error, with the file's name and the remedy."""
    mend = "the next write sets it aside under a new name"
    return DocumentError(f"{os.fspath(path)}: no document in it: {error}; {mend}")


def _absent() -> Snapshot:
    from miros_cache_net.document.value import Document

    return Snapshot(Document.unwritten(FrozenDict()), False, None)
