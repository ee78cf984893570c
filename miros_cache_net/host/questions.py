"""The question of a process of this host to the fleet, on its way to an object that can ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A JSON value, or in one line the reason why there is none."""

    value: Any
    error: str = ""


@dataclass(frozen=True)
class Question:
    """One question.

    what        one of `host.messages.QUESTIONS`
    deadline_s  when the asker stops waiting for the answer (monotonic seconds)
    done        called with the answer, once, on any thread and perhaps late; must not block or raise
    """

    what: str
    deadline_s: float
    done: Callable[[Answer], None]
