"""The descriptors that a test left open; a process that has run out of them, for a while."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


class NewDescriptors:
    """The descriptors that were opened after this was made, and still are; earlier tests' may be closed meanwhile."""

    def __init__(self) -> None:
        self._before = set(_descriptors())

    def links(self) -> list[str]:
        """What they lead to."""
        return sorted(link for number, link in set(_descriptors()) - self._before)


def _descriptors() -> Iterator[tuple[str, str]]:
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, as that of the listing
            yield number, os.readlink(f"/proc/self/fd/{number}")


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Which numbers are free does not matter: the highest that is taken is the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(60)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    try:
        with contextlib.ExitStack() as opened:
            with contextlib.suppress(OSError):
                while True:
                    opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            for _ in range(count):
                os.close(taken.pop())
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
