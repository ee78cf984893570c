"""Replacing the document atomically, and putting aside what is no document.  Called inside exclusive access.

The order of system calls is the one that survives power loss: write all bytes, fsync the file, rename,
fsync the directory, only then acknowledge (Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014).  A failed fsync is never tried again: the kernel has dropped the dirty pages (Rebello et al.,
"Can Applications Recover from fsync Failures?", ATC 2020).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

from miros_cache_net import limits
from miros_cache_net.errors import NoSpace

#: Mode of a document that did not exist before, as `open` would make it.
NEW_FILE_MODE = 0o666


def new_file_mode() -> int:
    """The mode that this process's umask gives to a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return NEW_FILE_MODE & ~mask


def replace_file(path: Path, text: bytes, *, mtime_ms: int, like: os.stat_result | None) -> int:
    """Put `text` in the place of `path`, durably, and return a descriptor of the new, still un-writable inode.

    `like` is the status of the inode that is replaced: owner's group is kept where this user may.  On any
    error the old file stands as it was and the temporary one is gone.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    temporary = f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(8)}"
    fd = -1
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o444, dir_fd=directory)
        if like is not None:
            _adopt_group(fd, like)
        _write_all(fd, text)
        os.utime(fd, ns=(time.time_ns(), mtime_ms * 1_000_000))
        os.fsync(fd)
        os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
        return fd
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        if fd >= 0:
            os.close(fd)
        raise
    finally:
        os.close(directory)


def sweep(path: Path) -> None:
    """Remove temporary files that killed writers of this document left; no live one can exist now."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.tmp-[0-9]+-[0-9a-f]{{16}}")
    with os.scandir(path.parent) as entries:
        left_over = [entry.path for entry in entries if pattern.fullmatch(entry.name)]
    for name in left_over:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def set_aside(path: Path) -> Path:
    """Move what stands at `path` to a name that says what it is, and return that name.

    Beyond `limits.SET_ASIDE_FILES` such files nothing is moved and `NoSpace` asks a person to look.
    """
    pattern = re.compile(rf"{re.escape(path.name)}\.corrupt-.*")
    with os.scandir(path.parent) as entries:
        number = sum(1 for entry in entries if pattern.fullmatch(entry.name))
    if number >= limits.SET_ASIDE_FILES:
        raise NoSpace(f"{path}: {number} broken files were set aside already; look at them and remove them")
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.corrupt-{when}-{secrets.token_hex(3)}")
    os.rename(path, aside)
    with contextlib.suppress(OSError):
        os.chmod(aside, 0o600, follow_symlinks=False) if os.chmod in os.supports_follow_symlinks else None
    return aside


def _write_all(fd: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        # the first write to a nearly full disk is short and no error; the next one fails
        view = view[os.write(fd, view) :]


def _adopt_group(fd: int, like: os.stat_result) -> None:
    if os.fstat(fd).st_gid != like.st_gid:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, -1, like.st_gid)
