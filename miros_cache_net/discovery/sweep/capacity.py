"""How much of this machine a sweep may use: file descriptors, and entries of the kernel's neighbour table.

Pure arithmetic on the machine's values, separate from `survey` and its thread, so that tests can pass any numbers.
"""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Final

from miros_cache_net import limits
from miros_cache_net.discovery.sweep.neighbours import Neighbour

_TABLE_SIZE: Final = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
#: The Linux default, because a container lacks the file above but is subject to the limit.
_USUAL_TABLE_SIZE: Final = 1024


def socket_budget() -> int:
    """How many sockets may be open at once: those left of `ulimit -n`, minus a reserve for the program itself.

    Raises `OSError` (EMFILE) if none are left.
    """
    return sockets_within(resource.getrlimit(resource.RLIMIT_NOFILE)[0], open_descriptors())


def sockets_within(limit: int, in_use: int) -> int:
    """`socket_budget` for a process with a `limit` of descriptors, of which `in_use` are open."""
    if limit == resource.RLIM_INFINITY:
        return limits.SWEEP_SOCKETS
    left = limit - in_use - limits.SWEEP_SPARE_DESCRIPTORS
    if left < 1:
        raise OSError(errno.EMFILE, "this process has too few file descriptors left for a sweep: raise `ulimit -n`")
    return min(left, limits.SWEEP_SOCKETS)


def neighbour_budget(table: list[Neighbour], size_file: Path = _TABLE_SIZE) -> int:
    """How many addresses may be asked at once without overflowing the neighbour table `table`.

    When it is full, the kernel drops packets to addresses that are not in it, other programs' too; so a reserve is left
    for those.  Failed entries do not count, because the kernel reuses them.
    """
    try:
        size = int(size_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        size = _USUAL_TABLE_SIZE
    used = sum(not each.failed for each in table)
    return max(size - size // limits.SWEEP_NEIGHBOUR_RESERVE - used, limits.SWEEP_NEIGHBOURS_LEAST)


def open_descriptors() -> int:
    """How many descriptors this process has open; 0 if the system does not say."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(directory))
        except OSError:
            continue
    return 0
