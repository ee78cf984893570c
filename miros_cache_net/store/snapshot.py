"""One state of the file, as it was read without a lock: atomic replacement makes every read whole."""

from __future__ import annotations

import os
import time

from miros_cache_net import limits
from miros_cache_net.document import layout, strict_json
from miros_cache_net.errors import DocumentError, FileRefused
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.regular import open_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from miros_cache_net.document.value import Document

#: Who is named as the origin of what a program that knows nothing of us wrote, until it is stamped.
UNSTAMPED_NODE = "unstamped"


class Snapshot:
    """One state of the file; immutable.

    face      what readers want to know
    document  the whole document, with `foreign` contents taken for a write at the file's mtime; made when asked for
    foreign   a program that knows nothing of us wrote it: it wants to be stamped and stored
    status    the file's `stat`, None where there is no file
    """

    def __init__(
        self,
        document: Document | None,
        foreign: bool,
        status: os.stat_result | None,
        *,
        known: tuple[layout.Face, dict[str, object]] | None = None,
    ) -> None:
        """Of a document, or of what `layout.face_of` told of a file."""
        self.foreign = foreign
        self.status = status
        self._document = document
        if known is not None:
            self.face, self._meta = known
        elif document is not None:
            self.face, self._meta = document.face, {}
        face = self.face
        self._young_from_ms, self._young_to_ms = layout.young_between_ms(face.contents, face.discovered_at_ms)
        self._path: str | os.PathLike[str] = ""
        self._place = ("", "", "")

    @property
    def document(self) -> Document:
        """Raises `DocumentError` for a file whose metadata somebody forged."""
        if self._document is None:
            from miros_cache_net.document.value import Document

            self._document = Document.from_parts(self.face.contents, self._meta)
        return self._document

    def payload(self, path: str | os.PathLike[str], now_ms: int, *, connected: bool = False) -> CacheReadPayload:
        """What is published and returned to users."""
        if path is not self._path:
            text = os.fspath(path)
            created_at = time.ctime(self.status.st_ctime if self.status else 0)
            self._path, self._place = path, (created_at, os.path.basename(text), text)
        created_at, file_name, file_path = self._place
        contents, discovered_at_ms, origin, version = self.face
        expired = not self._young_from_ms <= now_ms <= self._young_to_ms
        return CacheReadPayload(
            contents,
            discovered_at_ms / 1000,
            created_at,
            expired,
            file_name,
            layout.age_s(discovered_at_ms, now_ms),
            origin,
            expired and discovered_at_ms > 0,
            connected,
            file_path,
            version,
        )


def read_file(path: str | os.PathLike[str]) -> tuple[Snapshot, int]:
    """The snapshot of the file at `path`, and a descriptor of it (the caller closes it).

    A file that was changed a moment ago and holds no document may still be being written: it is waited for.
    Raises `OSError`, `DocumentError` where the file holds no document, and `FileRefused` for links, what is no
    regular file, and a newer format.
    """
    settling: _Settling | None = None
    while True:
        fd, status = open_document(path)
        try:
            return parse_file(_read_all(fd, status.st_size), status), fd
        except DocumentError:
            os.close(fd)
            settling = settling or _Settling(path)
            if settling.over():
                raise
        except BaseException:
            os.close(fd)
            raise
        time.sleep(limits.SETTLE_S / 10)


def parse_file(text: bytes, status: os.stat_result) -> Snapshot:
    """The document in a file's text; `DocumentError` where there is none."""
    known = layout.face_of(text)
    if known is not None:
        return Snapshot(None, False, status, known=known)
    value = strict_json.loads(text)
    if not isinstance(value, dict):
        raise DocumentError("a document is a JSON object")
    return _laid_out_by_others(value, status)


def identity_of(status: os.stat_result) -> tuple[int, ...]:
    """What tells one state of a file from another while a descriptor of its inode is open."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _laid_out_by_others(value: dict[str, object], status: os.stat_result) -> Snapshot:
    """Written by a stranger, or ours and saved again by an editor."""
    from miros_cache_net.document.value import Document, Stamp, own_time_ms

    meta = value.get(layout.META_KEY)
    number = meta.get("format") if isinstance(meta, dict) else None
    if type(number) is int and number not in layout.FORMATS:
        raise FileRefused(f"the file has {layout.unknown_format(number)}; a newer one wrote it, update this one")
    known = layout.face_in(value)
    if known is not None:
        return Snapshot(None, False, status, known=known)
    mtime_ms = own_time_ms(int(status.st_mtime * 1000))
    try:
        document = Document.unwritten({}).written(value, Stamp(mtime_ms, 0, UNSTAMPED_NODE), mtime_ms)
    except ValueError as error:
        raise DocumentError(str(error)) from None
    return Snapshot(document, True, status)


class _Settling:
    """Whether a file that holds no document may still be being written: it changed a moment ago."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._began_s = self._changed_s = time.monotonic()
        self._seen: tuple[int, ...] = ()

    def over(self) -> bool:
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        now_s = time.monotonic()
        seen = (*identity_of(status), status.st_ctime_ns)
        if seen != self._seen:
            self._seen, self._changed_s = seen, now_s
        if now_s - self._changed_s >= limits.SETTLE_S or now_s - self._began_s >= limits.SETTLE_AT_MOST_S:
            return True
        return abs(time.time() - status.st_ctime) > 2 * limits.SETTLE_S


def _read_all(fd: int, size: int) -> bytes:
    too_large = f"more than the {limits.DOCUMENT_BYTES} bytes allowed"
    if size > limits.DOCUMENT_BYTES:
        raise DocumentError(too_large)
    text = os.read(fd, size + 1)
    if len(text) == size:
        return text
    parts = [text]
    while part := os.read(fd, 65_536):
        parts.append(part)
        if sum(map(len, parts)) > limits.DOCUMENT_BYTES:
            raise DocumentError(too_large)
    return b"".join(parts)
