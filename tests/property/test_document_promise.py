"""An acknowledged update is lost only to what may beat it, whichever way clocks go.

All short histories of two hosts, and random longer ones of three.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_cache_net import limits
from miros_cache_net.document.value import Document
from miros_cache_net.errors import PayloadError
from tests.property.histories import START_MS, Done, Host, check_promise

HOUR_MS = 3_600_000
#: What a host's clock shows too much, before and after it is set in the middle of a history.
CLOCKS = list(itertools.product((-HOUR_MS, 0, HOUR_MS), repeat=2))
CHANGES = (("update", "a"), ("update", "b"), ("delete", "a"), ("write", ""), ("destroy", ""))
#: Four steps were tried too: 1.7 million histories in nine minutes.
STEPS = 3
UNWRITTEN = Document.unwritten({"default": -1})


def in_step() -> tuple[Host, Host]:
    first, _ = Host("alpha", UNWRITTEN).changed(-2, "write", "", START_MS)
    return first, Host("beta", UNWRITTEN).heard(first)


def fresh() -> tuple[Host, Host]:
    return Host("alpha", UNWRITTEN), Host("beta", UNWRITTEN)


def joined() -> tuple[Host, Host]:
    """One host of a fleet, and one that never met it."""
    return in_step()[0], Host("beta", UNWRITTEN)


def every_history(hosts: tuple[Host, Host], offsets_ms: Sequence[int], history: list[Done]) -> int:
    """Check all that two hosts may do in as many steps; the second one's clock is right.  How many ends there were.

    Hearing what one has changes nothing, so shorter histories are among them.
    """
    one, other = hosts
    if not offsets_ms:
        final = one.document.merged(other.document)
        assert final == other.document.merged(one.document)
        check_promise(final, history)
        return 1
    ends, number = 0, len(history)
    now_ms = START_MS + 1_000 * (1 + number)
    for kind, key in CHANGES:
        after, done = one.changed(number, kind, key, now_ms + offsets_ms[0])
        ends += every_history((after, other), offsets_ms[1:], [*history, done])
        after, done = other.changed(number, kind, key, now_ms)
        ends += every_history((one, after), offsets_ms[1:], [*history, done])
    ends += every_history((one.heard(other), other), offsets_ms[1:], history)
    return ends + every_history((one, other.heard(one)), offsets_ms[1:], history)


@pytest.mark.parametrize("start", [fresh, in_step, joined])
@pytest.mark.parametrize("tombstones", [0, 1, limits.TOMBSTONES])
def test_short_histories_of_two_hosts_keep_the_promise(
    start: Callable[[], tuple[Host, Host]], tombstones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TOMBSTONES", tombstones)
    for before_ms, after_ms in CLOCKS:
        offsets_ms = [before_ms, *[after_ms] * (STEPS - 1)]
        assert every_history(start(), offsets_ms, []) == (2 * len(CHANGES) + 2) ** STEPS


NAMES = ("alpha", "beta", "gamma")
YEARS_MS = 8_766 * HOUR_MS
JUMPS_MS = st.sampled_from([None] * 12 + [-10 * YEARS_MS, -HOUR_MS, 0, HOUR_MS, 10 * YEARS_MS, 10**15])
#: Which host, where its clock is set first, and what it does: a change, or hearing one of all states so far.
STEP = st.tuples(st.integers(0, 2), JUMPS_MS, st.one_of(st.sampled_from(CHANGES), st.integers(0, 99)))


class Played:
    """Three hosts after they did what was planned."""

    def __init__(self, plan: Sequence[tuple[int, int | None, tuple[str, str] | int]]) -> None:
        self.hosts = [Host(name, UNWRITTEN) for name in NAMES]
        self.ever = list(self.hosts)
        self.history: list[Done] = []
        clocks_ms = [START_MS] * len(NAMES)
        for number, (which, jump_ms, what) in enumerate(plan):
            clocks_ms[which] = clocks_ms[which] + 1 if jump_ms is None else START_MS + jump_ms
            if isinstance(what, int):
                self.hosts[which] = self.hosts[which].heard(self.ever[what % len(self.ever)])
            else:
                with contextlib.suppress(PayloadError):  # past a cap: not acknowledged
                    self.hosts[which], done = self.hosts[which].changed(number, *what, clocks_ms[which])
                    self.history.append(done)
            self.ever.append(self.hosts[which])


@given(st.lists(STEP, max_size=14), st.sampled_from([0, 1, limits.TOMBSTONES]), st.randoms())
def test_long_histories_of_three_hosts_keep_the_promise(plan, tombstones, random) -> None:  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "TOMBSTONES", tombstones)
        played = Played(plan)
        texts = set()
        for each in played.hosts:
            host, messages = each, [*played.ever, *played.hosts]
            random.shuffle(messages)
            for message in messages:
                host = host.heard(message)
            texts.add(host.document.to_text() if host.document.is_written else b"")
            check_promise(host.document, played.history)
        assert len(texts) == 1


@given(st.lists(STEP, max_size=14), st.integers(0, 2))
def test_whole_write_anywhere_mends_a_passed_cap(plan, which) -> None:  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "DOCUMENT_KEYS", 2)
        hosts = Played(plan).hosts
        for other in hosts:
            hosts[which] = hosts[which].heard(other)
        mended, _ = hosts[which].changed(99, "write", "", START_MS - 20 * YEARS_MS)
        for host in hosts:
            assert host.heard(mended).document == mended.document
