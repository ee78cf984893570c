"""A disk of a host's own, small enough to be filled."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from miros_cache_net.errors import CacheNetError

#: Room for a document or two, and filled at once.
_SIZE_KB = 256
_PIECE_BYTES = 4096
_BALLAST = "ballast"
#: What the mounts are of, as /proc/mounts shows it: this and the process that made them.
_SOURCE = "miros-cache-test-"


class DiskUnavailable(CacheNetError):
    """This process may not mount a disk."""


class SmallDisk:
    """A file system of 256 KiB in the place of `directory`, with what was in there; what it holds goes with `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if os.geteuid() != 0 or shutil.which("mount") is None:
            raise DiskUnavailable("a disk to fill needs root, and a `mount` that knows tmpfs: run as root, on Linux")
        remove_leftovers()
        with tempfile.TemporaryDirectory() as kept:
            shutil.copytree(directory, kept, dirs_exist_ok=True, ignore=_sockets)
            mode = f"{directory.stat().st_mode & 0o7777:o}"
            source = f"{_SOURCE}{os.getpid()}"
            _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE_KB}k,mode={mode}", source, str(directory))
            shutil.copytree(kept, directory, dirs_exist_ok=True)

    def fill(self) -> None:
        """Take every byte that is free."""
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
        """Give back what `fill` took."""
        (self._directory / _BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        """Take the disk away; what was in the directory before is there again."""
        _run("umount", "--lazy", str(self._directory))


def _sockets(directory: str, names: list[str]) -> list[str]:
    """They cannot be copied, and their owner makes them again."""
    return [name for name in names if stat.S_ISSOCK(os.lstat(f"{directory}/{name}").st_mode)]


def remove_leftovers() -> None:
    """Take away the disks of test processes that were killed before they could."""
    with open("/proc/mounts", encoding="utf-8") as mounts:
        found = [line.split()[:2] for line in mounts if line.startswith(_SOURCE)]
    for source, place in found:
        if not os.path.exists(f"/proc/{source.removeprefix(_SOURCE)}"):
            _run("umount", "--lazy", place.encode().decode("unicode_escape"))


def _run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise DiskUnavailable(f"{' '.join(command)} failed: {finished.stderr.strip() or finished.returncode}")
