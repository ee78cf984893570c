"""The ring of keys: the first encrypts, every one decrypts.

A new key goes to every host as the last of the ring, then becomes the first on every host, then the old
one is taken out: no message is lost on the way, and no node restarts.
"""

from __future__ import annotations

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
    "open_ring",
    "promote",
    "remove",
]

log = logging.getLogger(__name__)

#: Every token until the year 4147: Fernet's version byte, then the high bits of a time in seconds.
_TOKEN_HEAD: Final = b"gAAAAA"
_ID: Final = re.compile(r"[0-9a-f]{8}")
#: A file's times move in steps of a few milliseconds; one younger than this may change without its times showing it.
_SETTLED_NS: Final = 100_000_000


class KeyRing:
    """1 to `limits.RING_KEYS` Fernet keys.  Immutable; safe for all threads; shows no key."""

    __slots__ = ("_fernets", "ids")

    ids: tuple[str, ...]
    """The keys' ids, the encrypting one first."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self.ids = tuple(key_id(key) for key in keys)
        self._fernets = dict(zip(self.ids, map(Fernet, keys), strict=True))

    @classmethod
    def from_keys(cls, keys: Iterable[str | bytes]) -> KeyRing:
        """Raises `SettingsError`, naming the place in the list and no contents, for what is no ring of keys."""
        ring = {canonical_key(key, f"key {number}"): None for number, key in enumerate(keys, 1)}
        return cls(checked_ring(ring, "the ring"))

    @property
    def primary_id(self) -> str:
        """The id of the key that encrypts."""
        return self.ids[0]

    def encrypt(self, data: bytes) -> bytes:
        """A Fernet token of `data` under the first key."""
        return self._fernets[self.primary_id].encrypt(data)

    def decrypt(self, token: bytes, hint: str = "") -> bytes:
        """What a token of any of the keys holds; `hint`, a key id that anybody may have forged, is tried first.

        Raises `NotAuthentic`, which is `UnknownKey` for what is a token; they name key ids only.
        """
        if not token.startswith(_TOKEN_HEAD):
            raise NotAuthentic("a message that is not encrypted as ours are: some other program sends to this exchange")
        for each in self._in_order(hint):
            try:
                return self._fernets[each].decrypt(token)
            except InvalidToken:
                continue
        raise UnknownKey(f"{_opens_with(hint)}; this host holds {', '.join(self.ids)}: {_MEND}")

    def _in_order(self, hint: str) -> Iterable[str]:
        if hint == self.primary_id or hint not in self._fernets:
            return self.ids
        return (hint, *(each for each in self.ids if each != hint))

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.ids)})"


_MEND: Final = "compare `miros-cache-net key list` on both hosts"


def _opens_with(hint: str) -> str:
    if _ID.fullmatch(hint):
        return f"no key of the ring opens a message said to be of key {hint}"
    return "no key of the ring opens a message that names no key"


#: Gives the ring as it is now.
RingProvider = Callable[[], KeyRing]


class RingFile:
    """The ring in a key file, read again whenever the file has changed.  A `RingProvider`; safe for all threads.

    The constructor raises `SettingsError` if there is no usable ring.  Later a file that is gone,
    malformed or open to others is reported once to the log and in `trouble`, and the last good ring stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = self._identity()
        self._text = read_private(path)
        self._ring = KeyRing(parse_keys(self._text, self._name))
        self.trouble: SettingsError | None = None
        """Why the file as it is now is not used, None if it is."""

    def __call__(self) -> KeyRing:
        """The ring; costs one `stat` while the file stays as it is."""
        with self._lock:
            identity = self._identity()
            if identity is None or identity != self._seen:
                self._read_again(identity)
            return self._ring

    @property
    def _name(self) -> str:
        return f"key file {self._path}"

    def _identity(self) -> tuple[int, ...] | None:
        """What tells one state of the file from the next; None while the times cannot."""
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
            # a file just being written by hand: looked at again until it has settled
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
            log.error("%s; going on with the keys read before (%s)", error, ", ".join(self._ring.ids))
        self.trouble = error


def open_ring(settings: Settings) -> RingProvider:
    """The ring that `settings` name: fixed if the keys are given directly, else the key file's, as it changes.

    Raises `SettingsError` if there is no usable one.
    """
    if not settings.keys:
        return RingFile(settings.keys_file)
    ring = KeyRing(settings.load_keys())
    return lambda: ring
