"""What a process of this host wants to know of the fleet, on its way to whoever can ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A JSON value, or in one line what stood in the way."""

    value: Any
    error: str = ""


@dataclass(frozen=True)
class Question:
    """One question.

    what        one of `host.messages.QUESTIONS`
    deadline_s  when nobody waits for the answer any more (monotonic seconds)
    done        takes the answer, once, on any thread and maybe late; must not block or raise
    """

    what: str
    deadline_s: float
    done: Callable[[Answer], None]
