"""The printed lines, byte for byte as `miros-rabbitmq` 0.2.0 prints them."""

from __future__ import annotations

import pytest

from miros_cache_net.mesh import snoop

TRACE = "[2026-11-28 11:02:58.364219] [alpha] B->() dark->lit\n"


def test_ones_own_name_is_blue_and_anothers_purple() -> None:
    blue = " [+t] [2026-11-28 11:02:58.364219] [\033[34malpha\033[0m] B->() dark->lit"
    assert snoop.trace_line(TRACE, "alpha") == blue
    assert snoop.trace_line(TRACE, "beta") == blue.replace("[34m", "[35m")
    assert snoop.spy_line("alpha B:dark", "alpha") == " [+s] \033[34malpha\033[0m B:dark"
    assert snoop.spy_line("alpha B:dark", "beta") == " [+s] \033[35malpha \033[0mB:dark"


def test_a_name_is_coloured_once_a_line() -> None:
    assert snoop.spy_line("alpha alpha", "alpha").count("\033[34m") == 1


@pytest.mark.parametrize("body", ["", "word", "[one] bracket"])
def test_a_line_without_a_name_is_shown_as_it_is(body: str) -> None:
    assert snoop.trace_line(body, "alpha") == f" [+t] {body}"
    assert snoop.plain_spy_line(body) == f" [+s] {body}"


def test_without_colours_only_line_breaks_go() -> None:
    assert snoop.plain_trace_line(TRACE) == f" [+t] {TRACE[:-1]}"


def test_a_scribble_looks_like_a_line_of_the_trace() -> None:
    assert snoop.scribbled("now", "alpha", "text", in_color=False) == "[now] [alpha] # text"
    assert snoop.scribbled("now", "alpha", "text", in_color=True) == "[now] [alpha] \033[30;1m# text\033[0m"
