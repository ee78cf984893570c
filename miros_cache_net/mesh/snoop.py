"""Formats the lines of the snoop networks as `miros-rabbitmq` does, because its users' tools parse them."""

from __future__ import annotations

import re
from typing import Final

BLACK, OWN, OTHERS, RESET = "\033[30;1m", "\033[34m", "\033[35m", "\033[0m"

#: The name is the first word of a spy line, and in the second brackets of a trace line.
_SPY_NAME: Final = re.compile(r"(.+? )(.+)")
_TRACE_NAME: Final = re.compile(r"(\[.+?\] )\[(.+)\]")


def spy_line(body: str, own_name: str) -> str:
    """A line of some chart's spy, with the chart's name in colour."""
    return _shown("[+s]", _coloured(body, own_name, _SPY_NAME, 1))


def trace_line(body: str, own_name: str) -> str:
    """A line of some chart's trace, with the chart's name in colour."""
    return _shown("[+t]", _coloured(body, own_name, _TRACE_NAME, 2))


def plain_spy_line(body: str) -> str:
    return _shown("[+s]", body)


def plain_trace_line(body: str) -> str:
    return _shown("[+t]", body)


def scribbled(moment: str, own_name: str, message: object, *, in_color: bool) -> str:
    """A remark of the program, formatted as a trace line; `moment` is its time as text."""
    remark = f"{BLACK}# {message}{RESET}" if in_color else f"# {message}"
    return f"[{moment}] [{own_name}] {remark}"


def _coloured(body: str, own_name: str, pattern: re.Pattern[str], group: int) -> str:
    """`body` with one name in colour: the first occurrence of `own_name`, else the text in the place of the name."""
    if own_name in body:
        return body.replace(own_name, f"{OWN}{own_name}{RESET}", 1)
    found = pattern.search(body)
    return body if found is None else body.replace(found[group], f"{OTHERS}{found[group]}{RESET}", 1)


def _shown(mark: str, body: str) -> str:
    return f" {mark} " + body.replace("\n", "")
