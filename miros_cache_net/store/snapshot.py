"""Reading the document without a lock: atomic replacement makes every read whole.

A parsed document is kept and handed out again while `stat` shows the very inode whose descriptor is still
open here.  The descriptor matters: inode numbers, times and sizes alone repeat, an open inode's cannot.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miros_cache_net import limits, strict_json
from miros_cache_net.document import FORMAT, META_KEY, Document, Stamp, digest_of
from miros_cache_net.errors import DocumentError, FileRefused
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.regular import open_document

#: Who is named as the origin of what a program that knows nothing of us wrote, until it is stamped.
UNSTAMPED_NODE = "unstamped"
_META_MARK = f'"{META_KEY}":{{'.encode()


@dataclass(frozen=True)
class Snapshot:
    """One state of the file.

    document  its contents, with `foreign` contents taken for a write at the file's mtime
    foreign   a program that knows nothing of us wrote it: it wants to be stamped and stored
    status    the file's `stat`, None where there is no file
    """

    document: Document
    foreign: bool
    status: os.stat_result | None

    def payload(
        self, path: Path, now_ms: int, *, stale: bool = False, connected: bool = False
    ) -> CacheReadPayload:  # fmt: skip
        """What is published and returned to users."""
        document = self.document
        return CacheReadPayload(
            dict=document.contents,
            last_modified=document.floor.discovered_at_ms / 1000,
            created_at=time.ctime(self.status.st_ctime if self.status else 0),
            expired=document.expired(now_ms),
            file_name=path.name,
            age_s=document.age_s(now_ms),
            origin=document.origin,
            stale=stale,
            connected=connected,
            file_path=str(path),
            version=document.version,
        )


class SnapshotReader:
    """Reads one file; thread-safe.  `default` is what a missing file shows."""

    def __init__(self, path: Path, default: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.default = Document.unwritten(default or {})
        self._guard = threading.Lock()
        self._fd = -1
        self._identity: tuple[int, ...] = ()
        self._last: Snapshot | None = None

    def read(self) -> Snapshot:
        """The present state.

        Raises `OSError` where the file cannot be read, `DocumentError` where it holds no document (also a
        moment later, since a truncating writer looks empty at first) and `FileRefused` for links, what is no
        regular file, and a newer format.
        """
        with self._guard:
            try:
                status = os.stat(self.path, follow_symlinks=False)
            except FileNotFoundError:
                return Snapshot(self.default, False, None)
            if self._last is not None and _identity(status) == self._identity:
                return self._last
            return self._read_settled()

    def close(self) -> None:
        with self._guard:
            self._forget()

    def adopt(self, snapshot: Snapshot, fd: int) -> None:
        """Keep what was just stored instead of parsing it again; `fd` is an open descriptor of its inode."""
        if snapshot.status is not None:
            with self._guard:
                self._keep(snapshot, snapshot.status, os.dup(fd))

    def _read_settled(self) -> Snapshot:
        settling = _Settling(self.path)
        while True:
            try:
                return self._read_once()
            except FileNotFoundError:
                return Snapshot(self.default, False, None)
            except DocumentError:
                if settling.over():
                    raise
                time.sleep(limits.SETTLE_S / 10)

    def _read_once(self) -> Snapshot:
        self._forget()
        fd, status = open_document(self.path)
        try:
            snapshot = parse_file(_read_all(fd, status.st_size), status)
        except BaseException:
            os.close(fd)
            raise
        if snapshot.foreign and time.time() - status.st_ctime < limits.SETTLE_S:
            # written in place perhaps, and again before the file system's clock ticks: not to be kept
            os.close(fd)
        else:
            self._keep(snapshot, status, fd)
        return snapshot

    def _keep(self, snapshot: Snapshot, status: os.stat_result, fd: int) -> None:
        self._forget()
        self._fd, self._identity, self._last = fd, _identity(status), snapshot

    def _forget(self) -> None:
        self._last = None
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


class _Settling:
    """Whether a file that holds no document may still be being written: it changed a moment ago."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began_s = self._changed_s = time.monotonic()
        self._seen: tuple[int, ...] = ()

    def over(self) -> bool:
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        now_s = time.monotonic()
        seen = (*_identity(status), status.st_ctime_ns)
        if seen != self._seen:
            self._seen, self._changed_s = seen, now_s
        if now_s - self._changed_s >= limits.SETTLE_S or now_s - self._began_s >= limits.SETTLE_AT_MOST_S:
            return True
        return abs(time.time() - status.st_ctime) > 2 * limits.SETTLE_S


def parse_file(text: bytes, status: os.stat_result) -> Snapshot:
    """The document in a file's text; `DocumentError` where there is none."""
    value = strict_json.loads(text)
    if not isinstance(value, dict):
        raise DocumentError("a document is a JSON object")
    meta = value.get(META_KEY)
    if isinstance(meta, dict):
        if type(meta.get("format")) is int and meta["format"] > FORMAT:
            raise FileRefused(f"the file has format {meta['format']}, written by a newer release; update this one")
        with contextlib.suppress(DocumentError):
            document = Document.from_json(value)
            if _is_ours(document, text, meta.get("digest")):
                return Snapshot(document, False, status)
    mtime_ms = min(max(1, int(status.st_mtime * 1000)), limits.STAMP_WALL_MS)
    stamp = Stamp(mtime_ms, 0, UNSTAMPED_NODE)
    try:
        return Snapshot(Document.unwritten({}).written(value, stamp, mtime_ms), True, status)
    except ValueError as error:
        raise DocumentError(str(error)) from None


def _is_ours(document: Document, text: bytes, digest: object) -> bool:
    """The metadata belongs to these contents.  Our own layout is checked without writing them out again."""
    at = text.rfind(_META_MARK)
    if at > 0:
        contents = text[:at].removesuffix(b",") + b"}"
        if digest_of(contents) == digest:
            document.__dict__["contents_text"] = contents
            return True
    return document.digest == digest


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _read_all(fd: int, size: int) -> bytes:
    if size > limits.DOCUMENT_BYTES:
        raise DocumentError(f"{size} bytes are more than the {limits.DOCUMENT_BYTES} allowed")
    parts = []
    while part := os.read(fd, max(size, 4096) + 1):
        parts.append(part)
        if sum(map(len, parts)) > limits.DOCUMENT_BYTES:
            raise DocumentError(f"more than the {limits.DOCUMENT_BYTES} bytes allowed")
    return b"".join(parts)
