"""Changes to a key file: new, list, promote, remove.  Keys are named by id and never shown.

Comments are kept, and those right above a key move with it.  The file is replaced atomically and never readable by
other users; a lock on its directory serializes commands.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from miros_cache_net import limits
from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.key_file import generate_key, key_id, key_on, keys_in, parse_keys, read_private


class KeyInfo(NamedTuple):
    """A key of a ring, by its id; the primary one encrypts."""

    key_id: str
    primary: bool


class _Block(NamedTuple):
    """Lines that stay together: a key and the comments right above it, or (id "") comments of their own."""

    lines: tuple[str, ...]
    key_id: str


def list_keys(path: Path) -> list[KeyInfo]:
    """The keys of the ring in order.  Raises `SettingsError`, like `key_file.read_keys`."""
    keys = parse_keys(read_private(path), f"key file {path}")
    return [KeyInfo(key_id(key), number == 0) for number, key in enumerate(keys)]


def new_key(path: Path, *, primary: bool = False) -> str:
    """Make a key and return its id.  It becomes the last of the ring or, if `primary`, the first.

    As the last key it only decrypts, so that it can be distributed to all hosts first.  A missing directory is created
    with mode 0700.  Raises `SettingsError`.
    """
    key = generate_key()
    made = _Block((key.decode(),), key_id(key))
    with _editing(path, make_directory=True) as target:
        blocks = _blocks(_checked(target, empty=True)) if target.exists() else []
        if len(_ids(blocks)) >= limits.RING_KEYS:
            raise SettingsError(
                f"key file {path} holds {limits.RING_KEYS} keys, the maximum: "
                "remove an old one with `miros-cache-net key remove`"
            )
        _replace(target, _with_first(blocks, made) if primary else [*blocks, made])
    return made.key_id


def promote(path: Path, wanted: str) -> None:
    """Make the key with the id `wanted` the one that encrypts.  Raises `SettingsError` if there is none."""
    with _editing(path) as target:
        blocks = _read(target)
        chosen = [block for block in blocks if block.key_id == _known(blocks, wanted, path)]
        rest = [block for block in blocks if block not in chosen]
        _replace(target, _with_first(rest, chosen[0]))


def remove(path: Path, wanted: str) -> None:
    """Take out the key with the id `wanted`.  Raises `SettingsError` if there is none, or if it is the last."""
    with _editing(path) as target:
        blocks = _read(target)
        gone = _known(blocks, wanted, path)
        if len(_ids(blocks)) == 1:
            raise SettingsError(
                f"{gone} is the last key of {path}, and no node starts without a key: "
                "make another with `miros-cache-net key new` first"
            )
        _replace(target, [block for block in blocks if block.key_id != gone])


def _ids(blocks: list[_Block]) -> dict[str, None]:
    return {block.key_id: None for block in blocks if block.key_id}


def _known(blocks: list[_Block], wanted: str, path: Path) -> str:
    ids = _ids(blocks)
    if wanted not in ids:
        raise SettingsError(f"key file {path} holds no key {wanted[:40]!r}; it holds {', '.join(ids)}")
    return wanted


def _with_first(blocks: list[_Block], first: _Block) -> list[_Block]:
    """`first` before all keys, below the comments that head the file."""
    place = next((index for index, block in enumerate(blocks) if block.key_id), len(blocks))
    return [*blocks[:place], first, *blocks[place:]]


def _read(path: Path) -> list[_Block]:
    return _blocks(_checked(path))


def _checked(path: Path, *, empty: bool = False) -> bytes:
    """The file's text.  Raises `SettingsError` for a malformed file: people fix it by hand, it is not rewritten."""
    text = read_private(path)
    (keys_in if empty else parse_keys)(text, f"key file {path}")
    return text


def _blocks(text: bytes) -> list[_Block]:
    blocks: list[_Block] = []
    pending: list[str] = []
    for line in text.decode("utf-8-sig", "replace").splitlines():
        pending.append(line)
        key = key_on(line)
        if key or not line.strip():
            blocks.append(_Block(tuple(pending), key_id(key) if key else ""))
            pending = []
    return [*blocks, _Block(tuple(pending), "")] if pending else blocks


@contextlib.contextmanager
def _editing(path: Path, *, make_directory: bool = False) -> Iterator[Path]:
    """The file that `path` leads to, with its directory locked against other commands."""
    try:
        target = path.resolve()
        if make_directory:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield target
            os.fsync(directory)
        finally:
            os.close(directory)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is a loop of symbolic links"
        raise SettingsError(f"key file {path} cannot be changed: {why}") from None


def _replace(path: Path, blocks: list[_Block]) -> None:
    text = "".join(f"{line}\n" for block in blocks for line in block.lines).encode()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            _keep_owner(descriptor, path)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _keep_owner(descriptor: int, path: Path) -> None:
    """When root edits a user's file, it must stay that user's."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, status.st_uid, status.st_gid)
