"""Fernet keys as text: how a key file is read, and what may be said about a key.

A key file holds one key a line, ``#`` begins a comment, the first key encrypts.  A key is never shown:
`key_id` is what logs, messages and commands name it by.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final

from miros_cache_net import limits
from miros_cache_net.errors import SettingsError

#: 32 bytes in URL-safe base64.
_KEY: Final = re.compile(rb"[A-Za-z0-9_-]{43}=")
_ID_DOMAIN: Final = b"miros-cache-net key id 1\0"
_SHAPE: Final = "not a Fernet key (44 characters of URL-safe base64)"
MAKE_ONE: Final = "run `miros-cache-net key new`, or set MIROS_CACHE_KEYS"


def canonical_key(key: str | bytes, where: str) -> bytes:
    """`key` as Fernet takes it.  Raises `SettingsError`, naming `where` and never the key."""
    raw = key.encode("utf-8", "replace") if isinstance(key, str) else key
    if not _KEY.fullmatch(raw):
        raise SettingsError(f"{where}: {_SHAPE}; `miros-cache-net key new` makes one")
    # 43 characters carry two bits more than 32 bytes: two texts of one key are made one
    return base64.urlsafe_b64encode(base64.urlsafe_b64decode(raw))


def generate_key() -> bytes:
    """A new key, from the operating system's random source."""
    return base64.urlsafe_b64encode(os.urandom(32))


def key_id(key: str | bytes) -> str:
    """8 hexadecimal digits that name a key and tell nothing of it.  Raises `SettingsError` for no key."""
    raw = base64.urlsafe_b64decode(canonical_key(key, "key"))
    return hashlib.sha256(_ID_DOMAIN + raw).hexdigest()[:8]


def key_on(line: str) -> str:
    """What a line of a key file holds besides its comment, "" if nothing."""
    return line.partition("#")[0].strip()


def parse_keys(text: bytes, where: str) -> tuple[bytes, ...]:
    """The keys of a key file, without repetition.  `SettingsError` names file and line, never contents."""
    keys: dict[bytes, None] = {}
    for number, line in enumerate(text.decode("utf-8-sig", "replace").splitlines(), 1):
        key = key_on(line)
        if key:
            keys[canonical_key(key, f"{where}, line {number}")] = None
    return checked_ring(keys, where)


def checked_ring(keys: dict[bytes, None], where: str) -> tuple[bytes, ...]:
    """1 to `limits.RING_KEYS` keys as a ring; `SettingsError` otherwise."""
    if not keys:
        raise SettingsError(f"no key configured: {where} holds none; {MAKE_ONE}")
    if len(keys) > limits.RING_KEYS:
        raise SettingsError(
            f"{where} holds {len(keys)} keys, at most {limits.RING_KEYS} are used: "
            "take old ones out with `miros-cache-net key remove`"
        )
    return tuple(keys)


def read_private(path: Path) -> bytes:
    """The bytes of a file of secrets.

    Raises `SettingsError` if it is missing, no regular file, too large, or if anybody but its owner may
    open it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SettingsError(f"no key configured: {path} does not exist; {MAKE_ONE}") from None
    except OSError as error:
        raise SettingsError(f"key file {path} cannot be read: {error.strerror}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SettingsError(f"key file {path} is no regular file")
        if mode & 0o077:
            raise SettingsError(f"key file {path} is open to other users; run `chmod 600 {path}`")
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read(limits.KEY_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(text) > limits.KEY_FILE_BYTES:
        raise SettingsError(f"key file {path} is larger than {limits.KEY_FILE_BYTES} bytes: is it the right file?")
    return text


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The ring in the key file at `path`; `SettingsError` as of `read_private` and `parse_keys`."""
    return parse_keys(read_private(path), f"key file {path}")
