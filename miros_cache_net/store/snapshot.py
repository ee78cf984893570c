"""One state of the file, read without a lock: atomic replacement makes every read consistent."""

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

#: The origin shown for contents that a foreign program wrote, until they are stamped.
UNSTAMPED_NODE = "unstamped"


class Snapshot:
    """One state of the file; immutable.

    face      the parts of the document that readers use
    document  the whole document, parsed on demand; `foreign` contents count as a write at the file's mtime
    foreign   a foreign program wrote the file: it still has to be stamped and stored
    status    the file's `stat`, None if there is no file
    """

    def __init__(
        self,
        document: Document | None,
        foreign: bool,
        status: os.stat_result | None,
        *,
        known: tuple[layout.Face, dict[str, object]] | None = None,
    ) -> None:
        """Made from a document, or from the result of `layout.face_of` (`known`)."""
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
        self._place = ("", "", "", "", "")

    @property
    def document(self) -> Document:
        """Raises `DocumentError` for a file with forged metadata."""
        if self._document is None:
            from miros_cache_net.document.value import Document

            self._document = Document.from_parts(self.face.contents, self._meta)
        return self._document

    def payload(self, path: str | os.PathLike[str], now_ms: int, *, connected: bool = False) -> CacheReadPayload:
        """The payload that is published and returned to users."""
        if path is not self._path:
            text = os.fspath(path)
            changed_s = self.status.st_ctime if self.status else 0
            times = time.ctime(changed_s), iso_text(self.face.discovered_at_ms), iso_text(int(changed_s * 1000))
            self._path, self._place = path, (*times, os.path.basename(text), text)
        created_at, discovered_at, stored_at, file_name, file_path = self._place
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
            discovered_at,
            stored_at,
        )


def iso_text(since_1970_ms: int) -> str:
    """ISO 8601 in UTC; "" for 0, which is no moment."""
    seconds, ms = divmod(since_1970_ms, 1000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{ms:03d}Z", time.gmtime(seconds)) if since_1970_ms else ""


def read_file(path: str | os.PathLike[str]) -> tuple[Snapshot, int]:
    """The snapshot of the file at `path`, and a descriptor of it, which the caller closes.

    Waits if the file changed a moment ago and contains no document, because a program may still be writing it.
    Raises `OSError`, `DocumentError` if the file contains no document, and `FileRefused` for a link, a file that is
    not regular, or a newer format.
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
    """The document in a file's text; raises `DocumentError` if there is none."""
    known = layout.face_of(text)
    if known is not None:
        return Snapshot(None, False, status, known=known)
    value = strict_json.loads(text)
    if not isinstance(value, dict):
        raise DocumentError("a document must be a JSON object")
    return _laid_out_by_others(value, status)


def identity_of(status: os.stat_result) -> tuple[int, ...]:
    """Distinguishes two states of a file, while a descriptor of its inode is open."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _laid_out_by_others(value: dict[str, object], status: os.stat_result) -> Snapshot:
    """The snapshot of text that a foreign program wrote, or of ours after an editor has saved it."""
    from miros_cache_net.document.passwords import without_passwords
    from miros_cache_net.document.value import Document, Stamp, own_time_ms

    meta = value.get(layout.META_KEY)
    number = meta.get("format") if isinstance(meta, dict) else None
    if type(number) is int and number not in layout.FORMATS:
        raise FileRefused(f"the file has {layout.unknown_format(number)}; a newer release wrote it, upgrade this one")
    known = layout.face_in(value)
    if known is not None:
        return Snapshot(None, False, status, known=known)
    mtime_ms = own_time_ms(int(status.st_mtime * 1000))
    try:
        stamp = Stamp(mtime_ms, 0, UNSTAMPED_NODE)
        document = Document.unwritten({}).written(without_passwords(value), stamp, mtime_ms)
    except ValueError as error:
        raise DocumentError(str(error)) from None
    return Snapshot(document, True, status)


class _Settling:
    """Decides how long a file without a document, changed a moment ago, may still be under a writer."""

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
    too_large = f"it has more than the {limits.DOCUMENT_BYTES} bytes allowed"
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
