"""Fernet keys as text: how a key file is read, and how a key is named.

A key file contains one key per line, ``#`` starts a comment, the first key encrypts.  A key is never shown:
logs, messages and commands name it by its `key_id`.
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
_MEND_LINE: Final = (
    "copy the key file of another host of the fleet again; if this is the first host, remove that line and run "
    "`miros-cache-net key new`"
)
_NOT_YOURS: Final = "you cannot change its mode"
_OTHERS_FILE: Final = (
    "copy it to a file of your own with mode 600 that MIROS_CACHE_KEYS_FILE names, or have root mount it with your "
    "group and mode 0440"
)
NEW_MAKES_ONE: Final = "`miros-cache-net key new` makes one"
MAKE_ONE: Final = "run `miros-cache-net key new` on the first host of the fleet, or copy its key file to this one"


def canonical_key(key: str | bytes, where: str, mend: str = NEW_MAKES_ONE) -> bytes:
    """`key` in the form that Fernet accepts.  Raises `SettingsError`, which names `where` and never the key."""
    raw = key.encode("utf-8", "replace") if isinstance(key, str) else key
    if not _KEY.fullmatch(raw):
        raise SettingsError(f"{where}: {_SHAPE}", mend=mend)
    # 43 characters carry two bits more than 32 bytes, so a key has several spellings: use one.
    return base64.urlsafe_b64encode(base64.urlsafe_b64decode(raw))


def generate_key() -> bytes:
    """A new key, from the operating system's random source."""
    return base64.urlsafe_b64encode(os.urandom(32))


def key_id(key: str | bytes) -> str:
    """8 hexadecimal digits that name a key and reveal nothing of it.  Raises `SettingsError` if `key` is not a key."""
    raw = base64.urlsafe_b64decode(canonical_key(key, "key"))
    return hashlib.sha256(_ID_DOMAIN + raw).hexdigest()[:8]


def key_on(line: str) -> str:
    """A line of a key file without its comment; "" if nothing is left."""
    return line.partition("#")[0].strip()


def parse_keys(text: bytes, where: str) -> tuple[bytes, ...]:
    """The keys of a key file, without duplicates.  Raises `SettingsError`, which names file and line, never a key."""
    return checked_ring(keys_in(text, where), where)


def keys_in(text: bytes, where: str) -> dict[bytes, None]:
    """As `parse_keys`, for a file that may contain no key or too many."""
    keys: dict[bytes, None] = {}
    for number, line in enumerate(text.decode("utf-8-sig", "replace").splitlines(), 1):
        key = key_on(line)
        if key:
            keys[canonical_key(key, f"{where}, line {number}", _MEND_LINE)] = None
    return keys


def checked_ring(keys: dict[bytes, None], where: str) -> tuple[bytes, ...]:
    """1 to `limits.RING_KEYS` keys as a key ring; raises `SettingsError` for any other number."""
    if not keys:
        raise SettingsError(f"no key configured: {where} holds none", mend=MAKE_ONE)
    if len(keys) > limits.RING_KEYS:
        raise SettingsError(
            f"{where} holds {len(keys)} keys, at most {limits.RING_KEYS} are allowed: "
            "remove old ones with `miros-cache-net key remove`"
        )
    return tuple(keys)


def read_private(path: Path) -> bytes:
    """The bytes of a file of secrets.

    Raises `SettingsError` if it is missing, not a regular file or too large, or if a user other than its owner may
    open it.  A file that root owns may be readable by its group, as Secret mounts are (0440).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SettingsError(f"no key configured: {path} does not exist", mend=MAKE_ONE) from None
    except OSError as error:
        mend = _OTHERS_FILE if isinstance(error, PermissionError) else ""
        raise SettingsError(f"key file {path} cannot be read: {error.strerror}", mend=mend) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"key file {path} is not a regular file")
        if status.st_mode & (0o037 if status.st_uid == 0 else 0o077):
            read_only = os.fstatvfs(descriptor).f_flag & os.ST_RDONLY
            own = os.geteuid() in (0, status.st_uid) and not read_only
            mend = f"run `chmod 600 {path}`" if own else f"{_NOT_YOURS}; {_OTHERS_FILE}"
            raise SettingsError(f"key file {path} is open to other users", mend=mend)
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read(limits.KEY_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(text) > limits.KEY_FILE_BYTES:
        raise SettingsError(f"key file {path} is larger than {limits.KEY_FILE_BYTES} bytes: is it the right file?")
    return text


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The key ring in the file at `path`; raises `SettingsError` as `read_private` and `parse_keys` do."""
    return parse_keys(read_private(path), f"key file {path}")
