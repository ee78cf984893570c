"""A disk for a single host, small enough to fill."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from miros_cache_net.errors import CacheNetError

#: Room for a document or two, and fast to fill.
_SIZE_KB = 256
_PIECE_BYTES = 4096
_BALLAST = "ballast"
#: The mounts' source in /proc/mounts: this and the id of the process that made them.
_SOURCE = "miros-cache-test-"


class DiskUnavailable(CacheNetError):
    """This process is not allowed to mount a disk."""


class SmallDisk:
    """A file system of 256 KiB mounted over `directory`, with a copy of its contents; `close` discards it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if os.geteuid() != 0 or shutil.which("mount") is None:
            raise DiskUnavailable("a small disk needs root, and a `mount` that supports tmpfs: run as root, on Linux")
        remove_leftovers()
        with tempfile.TemporaryDirectory() as kept:
            shutil.copytree(directory, kept, dirs_exist_ok=True, ignore=_sockets)
            mode = f"{directory.stat().st_mode & 0o7777:o}"
            source = f"{_SOURCE}{os.getpid()}"
            _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE_KB}k,mode={mode}", source, str(directory))
            shutil.copytree(kept, directory, dirs_exist_ok=True)

    def fill(self) -> None:
        """Use up every free byte."""
        ballast = os.open(self._directory / _BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while True:
                os.write(ballast, bytes(_PIECE_BYTES))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(ballast)

    def free(self) -> None:
        """Free the space that `fill` used."""
        (self._directory / _BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount the disk; the directory's earlier contents are visible again."""
        _run("umount", "--lazy", str(self._directory))


def _sockets(directory: str, names: list[str]) -> list[str]:
    """The sockets among `names`: they cannot be copied, and their owner makes them again."""
    return [name for name in names if stat.S_ISSOCK(os.lstat(f"{directory}/{name}").st_mode)]


def remove_leftovers() -> None:
    """Unmount the disks of test processes that were killed."""
    with open("/proc/mounts", encoding="utf-8") as mounts:
        found = [line.split()[:2] for line in mounts if line.startswith(_SOURCE)]
    for source, place in found:
        if not os.path.exists(f"/proc/{source.removeprefix(_SOURCE)}"):
            _run("umount", "--lazy", place.encode().decode("unicode_escape"))


def _run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise DiskUnavailable(f"{' '.join(command)} failed: {finished.stderr.strip() or finished.returncode}")
