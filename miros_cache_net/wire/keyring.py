"""The ring of keys: the first encrypts, every one decrypts.

To rotate: add the new key on every host as the last of the ring, then make it the first everywhere, then remove the old
one.  No message is lost meanwhile, and no node restarts.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet, InvalidToken

from miros_cache_net.errors import NotAuthentic, SettingsError, UnknownKey
from miros_cache_net.settings.key_file import (
    canonical_key,
    checked_ring,
    generate_key,
    key_id,
    parse_keys,
    read_private,
)
from miros_cache_net.wire.key_edit import KeyInfo, list_keys, new_key, promote, remove

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

__all__ = [
    "KeyInfo",
    "KeyRing",
    "RingFile",
    "RingProvider",
    "generate_key",
    "key_id",
    "list_keys",
    "new_key",
    "open_mesh_ring",
    "open_ring",
    "promote",
    "remove",
]

log = logging.getLogger(__name__)

#: Head of every token until the year 4147: Fernet's version byte, then the high bits of a time in seconds.
_TOKEN_HEAD: Final = b"gAAAAA"
_ID: Final = re.compile(r"[0-9a-f]{8}")
#: File times have a granularity of milliseconds: a file younger than this may change without its times changing.
_SETTLED_NS: Final = 100_000_000


class KeyRing:
    """1 to `limits.RING_KEYS` Fernet keys.  Immutable, thread-safe, never shows a key."""

    __slots__ = ("_fernets", "_signing_keys", "ids")

    ids: tuple[str, ...]
    """The keys' ids, the encrypting one first."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self.ids = tuple(key_id(key) for key in keys)
        self._fernets = dict(zip(self.ids, map(Fernet, keys), strict=True))
        self._signing_keys = {
            each: base64.urlsafe_b64decode(key)[:16] for each, key in zip(self.ids, keys, strict=True)
        }

    @classmethod
    def from_keys(cls, keys: Iterable[str | bytes]) -> KeyRing:
        """Raises `SettingsError` for invalid keys; it names the position in the list, never the content."""
        ring = {canonical_key(key, f"key {number}"): None for number, key in enumerate(keys, 1)}
        return cls(checked_ring(ring, "the ring"))

    @property
    def primary_id(self) -> str:
        """The id of the key that encrypts."""
        return self.ids[0]

    def encrypt(self, data: bytes) -> bytes:
        """A Fernet token of `data`, made with the first key."""
        return self._fernets[self.primary_id].encrypt(data)

    def decrypt(self, token: bytes, hint: str = "") -> bytes:
        """The content of a token made with any of the keys; `hint`, a possibly forged key id, is tried first.

        Raises `NotAuthentic`, as `UnknownKey` if it is a token; the errors name key ids only.
        """
        if not token.startswith(_TOKEN_HEAD):
            raise NotAuthentic("a message that is not encrypted in our format: another program sends to this exchange")
        key = self._signer(token, hint)
        if key:
            with contextlib.suppress(InvalidToken):
                return self._fernets[key].decrypt(token)
        raise UnknownKey(f"{_opens_with(hint)}; this host holds {', '.join(self.ids)}: {_MEND}")

    def _signer(self, token: bytes, hint: str) -> str:
        """The id of the key that signed it, "" if none did.  Decodes a stranger's 20 MiB once, not per key."""
        if len(self.ids) == 1:
            return self.primary_id
        try:
            signed = memoryview(base64.urlsafe_b64decode(token))
        except ValueError:
            return ""
        for each in self._in_order(hint):
            signature = hmac.digest(self._signing_keys[each], signed[:-_SIGNATURE_BYTES], "sha256")
            if hmac.compare_digest(signature, signed[-_SIGNATURE_BYTES:]):
                return each
        return ""

    def _in_order(self, hint: str) -> Iterable[str]:
        if hint == self.primary_id or hint not in self._fernets:
            return self.ids
        return (hint, *(each for each in self.ids if each != hint))

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.ids)})"


#: A Fernet token ends with an HMAC-SHA256 of all before it, keyed with the first half of the key.
_SIGNATURE_BYTES: Final = 32
_MEND: Final = "compare `miros-cache-net key list` on both hosts"


def _opens_with(hint: str) -> str:
    if _ID.fullmatch(hint):
        return f"no key of the ring decrypts a message that names key {hint}"
    return "no key of the ring decrypts a message that names no key"


#: Gives the current ring.
RingProvider = Callable[[], KeyRing]


class RingFile:
    """The ring in a key file, reread whenever the file changes.  A `RingProvider`; thread-safe.

    The constructor raises `SettingsError` if there is no usable ring.  If the file is later missing, malformed or open
    to others, the error is logged once and kept in `trouble`, and the last good ring stays in use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = self._identity()
        self._text = read_private(path)
        self._ring = KeyRing(parse_keys(self._text, self._name))
        self.trouble: SettingsError | None = None
        """Why the current file is not used; None if it is."""

    def __call__(self) -> KeyRing:
        """The ring; costs one `stat` while the file is unchanged."""
        with self._lock:
            identity = self._identity()
            if identity is None or identity != self._seen:
                self._read_again(identity)
            return self._ring

    @property
    def _name(self) -> str:
        return f"key file {self._path}"

    def _identity(self) -> tuple[int, ...] | None:
        """Identifies the file's current state; None while it is too young for its times to do so."""
        try:
            status = self._path.stat()
        except OSError:
            return (0,)
        if abs(time.time_ns() - status.st_ctime_ns) < _SETTLED_NS:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _read_again(self, identity: tuple[int, ...] | None) -> None:
        try:
            text = read_private(self._path)
            ring = self._ring if text == self._text else KeyRing(parse_keys(text, self._name))
        except SettingsError as error:
            # the file may just be being edited: retry until it has settled
            if identity is not None:
                self._report(error)
                self._seen = identity
            return
        self._seen, self._text, self.trouble = identity, text, None
        if ring is not self._ring:
            log.info("%s has changed: key %s encrypts, the ring is %s", self._name, ring.primary_id, ring.ids)
            self._ring = ring

    def _report(self, error: SettingsError) -> None:
        if str(error) != str(self.trouble):
            log.error("%s; continuing with the keys read before (%s)", error, ", ".join(self._ring.ids))
        self.trouble = error


def open_ring(settings: Settings) -> RingProvider:
    """The ring that `settings` name: fixed if the keys are given directly, else the key file's, kept current.

    Raises `SettingsError` if there is no usable one.
    """
    settings.check_keys_may_be_used()
    if not settings.keys:
        return RingFile(settings.keys_path)
    ring = KeyRing(settings.load_keys())
    return lambda: ring


def open_mesh_ring(settings: Settings) -> RingProvider:
    """The ring of the mesh of `miros-rabbitmq`: its own key or key file if the settings name one, else the fleet's.

    Raises `SettingsError` as `open_ring`.
    """
    settings.check_keys_may_be_used()
    if key := settings.mesh_key.get_secret_value():
        ring = KeyRing((canonical_key(key, "MESH_ENCRYPTION_KEY"),))
        return lambda: ring
    return RingFile(settings.mesh_key_file) if settings.mesh_key_file is not None else open_ring(settings)
