"""Steps as JSON lists for another process or host, and which of them a receiver accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from miros_cache_net import limits
from miros_cache_net.observe.moments import LATEST_MOMENT
from miros_cache_net.observe.steps import Step

_FIELDS: Final = len(Step._fields)
#: The longest list of names.
_MOST_NAMES: Final = 64


def packed(step: Step) -> list[Any]:
    """`step` as a JSON list, cut to `limits.TRACE_STEP_BYTES` unless its four names alone are longer."""
    names = (_name(step.chart), _name(step.event), _name(step.from_state), _name(step.to_state))
    hooks, sent = ([_name(each) for each in some[:_MOST_NAMES]] for some in (step.hooks, step.sent))
    spy: list[str] = []
    made: list[Any] = [step.moment, step.process, *names, step.took_us, hooks, sent, spy, _clean(step.payload)]
    while (room := limits.TRACE_STEP_BYTES - size_of(made)) < 0 and made[-1]:
        made[-1] = made[-1][: len(made[-1]) // 2]
    while (room := limits.TRACE_STEP_BYTES - size_of(made)) < 0 and sent:
        sent.pop()
    for line in map(_clean, step.spy):
        room -= size_of([line])
        if room < 0 or len(spy) >= _MOST_NAMES:
            break
        spy.append(line)
    return made


def size_of(step: Sequence[Any]) -> int:
    """An upper bound of a packed step's size as JSON, with quotes and escapes."""
    return len(json.dumps(step)) + 2


def unpacked(steps: Any, most: int) -> Iterator[Step]:
    """The steps in another process's data, at most `most`; anything else is skipped."""
    for each in steps[:most] if isinstance(steps, (list, tuple)) else ():
        step = _step(each)
        if step is not None:
            yield step


def _step(value: Any) -> Step | None:
    if not isinstance(value, (list, tuple)) or len(value) < _FIELDS:
        return None
    moment, process, chart, event, before, after, took_us, hooks, sent, spy, payload = value[:_FIELDS]
    numbers = all(type(each) is int and 0 <= each <= LATEST_MOMENT for each in (moment, process, took_us))
    names = all(isinstance(each, str) and len(each) <= limits.TRACE_NAME for each in (chart, event, before, after))
    if not numbers or not names or not isinstance(payload, str):
        return None
    lists = (_texts(hooks), _texts(sent), _texts(spy))
    return Step(moment, process, chart, event, before, after, took_us, *lists, payload[: limits.STEP_TEXT])


def _texts(value: Any) -> tuple[str, ...]:
    some = value[:_MOST_NAMES] if isinstance(value, (list, tuple)) else ()
    return tuple(each[: limits.STEP_TEXT] for each in some if isinstance(each, str))


def _clean(text: str) -> str:
    """Without lone surrogates, which no message can carry."""
    return text.encode("utf-8", "replace").decode()


def _name(text: str) -> str:
    text = _clean(text)
    return text if len(text) <= limits.TRACE_NAME else text[: limits.TRACE_NAME - 3] + "..."
