"""What a host's bridge answers to `health`: a list of facts, each with what is wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from miros_cache_net.clock import Clock
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.store.disk_look import DiskLook

LINK: Final = "link"
CANARY: Final = "canary"
IN_STEP: Final = "in step"
UNDERSTOOD: Final = "understood"
CLOCK: Final = "clock"
CAPS: Final = "caps"
KEY: Final = "key"
FILE: Final = "file"
DISK: Final = "disk"


class Check(NamedTuple):
    """One fact.

    detail  what is wrong; for a link that is up, the broker
    """

    name: str
    ok: bool
    detail: str


def untroubled(name: str, trouble: str) -> Check:
    """A check that passes if `trouble` is empty."""
    return Check(name, not trouble, trouble)


def own_trouble(checks: Sequence[Check]) -> str:
    """What is wrong with a host that the fleet's own trouble does not name; "" if nothing is."""
    return next((each.detail for each in checks if not each.ok and each.name not in (LINK, IN_STEP)), "")


#: Checks that fail during a broker restart or network outage, and recover by themselves.
OF_TOUCH: Final = (LINK, CANARY, IN_STEP)


class Health:
    """Answers for one node.  `answer` and `look` run on the node's thread, so a hung node gives no answer.

    disk  tries the file's disk
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self.disk = DiskLook(path, clock)
        self._out_since_s: float | None = clock.monotonic_s()

    def look(self, in_touch: bool) -> None:
        """Note whether the node is in touch with the fleet now."""
        if in_touch:
            self._out_since_s = None
        elif self._out_since_s is None:
            self._out_since_s = self._clock.monotonic_s()

    def answer(self, question: Question, node: str, checks: Sequence[Check]) -> None:
        """Answer `question` with `checks` and the disk's state, once the disk has been checked."""
        since_s = self._out_since_s
        out_s = 0.0 if since_s is None else self._clock.monotonic_s() - since_s

        def done(trouble: str) -> None:
            every = [*checks, Check(DISK, not trouble, trouble)]
            facts: dict[str, Any] = {"node": node, "pid": os.getpid(), "out_of_touch_s": out_s}
            question.done(Answer({**facts, "checks": [each._asdict() for each in every]}))

        self.disk.tell(done)
