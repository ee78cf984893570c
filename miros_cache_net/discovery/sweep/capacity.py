"""How much of this machine a sweep may use: descriptors, and entries of the kernel's neighbour table."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Final

from miros_cache_net import limits
from miros_cache_net.discovery.sweep.neighbours import Neighbour

_TABLE_SIZE: Final = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
#: What Linux starts with; inside a container the file above is not there, while the limit holds.
_USUAL_TABLE_SIZE: Final = 1024


def socket_budget() -> int:
    """How many sockets may be open at once: what `ulimit -n` leaves, less what the program itself may need.

    Raises `OSError` (EMFILE) where that is nothing.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return limits.SWEEP_SOCKETS
    left = limit - _open_descriptors() - limits.SWEEP_SPARE_DESCRIPTORS
    if left < 1:
        raise OSError(errno.EMFILE, "this process has too few file descriptors left for a sweep: raise `ulimit -n`")
    return min(left, limits.SWEEP_SOCKETS)


def neighbour_budget(table: list[Neighbour], size_file: Path = _TABLE_SIZE) -> int:
    """How many addresses may be asked for at once so that the table `table` does not overflow.

    Beyond its size the kernel drops packets to addresses that are not in it, other programs' too; so a reserve
    stays for those.  Entries that the kernel has given up make room by themselves.
    """
    try:
        size = int(size_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        size = _USUAL_TABLE_SIZE
    used = sum(not each.failed for each in table)
    return max(size - size // limits.SWEEP_NEIGHBOUR_RESERVE - used, limits.SWEEP_NEIGHBOURS_LEAST)


def _open_descriptors() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(directory))
        except OSError:
            continue
    return 0
