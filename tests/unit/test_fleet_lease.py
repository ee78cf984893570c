"""One host's part in discovering once a fleet: when its bridge asks for the lease, keeps it and gives it back."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.fleet.fleet_lease import (
    FIRST_LINK_S,
    FIRST_LINK_TIMER,
    LEASE_TIMER,
    RESULT_UNDER_WAY_S,
    WATCH_AGAIN_S,
    WATCH_TIMER,
    FleetLease,
)
from miros_cache_net.fleet.node_events import DISCOVERY_OVER, LEASE_ANSWERED
from miros_cache_net.host.messages import LEASE
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.limits import RESULT_TAKEN_S
from miros_cache_net.store.kernel_lock import KernelLock
from tests.threads import no_lock_waiters

AMPLE_S = 20.0


class Port:
    """Notes what the broker and the timers are asked for."""

    def __init__(self) -> None:
        self.asked: list[Callable[[bool], None]] = []
        self.released = 0
        self.timers: list[float] = []
        self.news: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        self.asked.append(done)

    def release_lease(self) -> None:
        self.released += 1

    def after(self, name: str, delay_s: float) -> None:
        self.timers.append(delay_s)

    def post(self, name: str, payload: Any) -> None:
        self.news.put((name, payload))


class Bridge:
    """The lease and its owner's thread, which is the test's."""

    def __init__(self, path: Path, *, linked: bool = True) -> None:
        self.port = Port()
        self.lease = FleetLease(self.port, str(path), after=self.port.after, post=self.port.post)
        if linked:
            self.lease.link_up()
            self.lease.in_step()
        self.answers: list[Answer] = []

    def ask(self) -> None:
        self.lease.ask(Question(LEASE, time.monotonic() + AMPLE_S, self.answers.append))

    def next_news(self) -> str:
        name, held = self.port.news.get(timeout=AMPLE_S)
        if name == LEASE_ANSWERED:
            self.lease.answered(held)
        else:
            self.lease.discovery_over()
        return name

    def timer(self) -> None:
        self.lease.timers[LEASE_TIMER]()

    def granted(self) -> None:
        """Asked by a process that has the discovery lock, and granted by the broker."""
        self.ask()
        self.port.asked[-1](True)
        assert self.next_news() == LEASE_ANSWERED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "discovery.lock"


@pytest.fixture
def bridge(path: Path) -> Iterator[Bridge]:
    made = Bridge(path)
    yield made
    made.lease.close()


@pytest.fixture
def process(path: Path) -> Iterator[KernelLock]:
    """A process of the host that discovers."""
    lock = KernelLock(path)
    assert lock.try_lock()
    yield lock
    lock.close()


@pytest.fixture
def starting(path: Path) -> Iterator[Bridge]:
    """A bridge that has not had a link yet."""
    made = Bridge(path, linked=False)
    yield made
    made.lease.close()


def test_question_before_first_link_waits_for_it(starting: Bridge) -> None:
    starting.ask()
    starting.ask()
    assert starting.answers == [] and starting.port.timers == [FIRST_LINK_S]
    starting.lease.link_up()
    assert starting.port.asked == [], "the fleet may have the result already"
    starting.lease.in_step()
    starting.port.asked[-1](False)
    assert starting.next_news() == LEASE_ANSWERED
    starting.lease.timers[FIRST_LINK_TIMER]()
    assert starting.answers == [Answer(False)] * 2


@pytest.mark.parametrize("end", ["broker refuses", "no answer in time"])
def test_question_before_first_link_ends_without_one(starting: Bridge, end: str) -> None:
    starting.ask()
    starting.lease.link_down() if end == "broker refuses" else starting.lease.timers[FIRST_LINK_TIMER]()
    starting.ask()
    assert [answer.value for answer in starting.answers] == [None, None]
    assert all("no link to the fleet" in answer.error for answer in starting.answers)


def test_lease_is_kept_until_the_result_has_spread(bridge: Bridge, process: KernelLock) -> None:
    bridge.granted()
    assert bridge.answers == [Answer(True)]
    process.close()
    assert bridge.next_news() == DISCOVERY_OVER
    assert bridge.lease.awaits_result and bridge.port.timers == [RESULT_TAKEN_S]
    bridge.lease.result_spread()
    bridge.lease.result_spread()
    assert (bridge.port.released, bridge.port.timers) == (0, [RESULT_TAKEN_S, RESULT_UNDER_WAY_S])
    bridge.timer()
    assert bridge.port.released == 1
    bridge.timer()
    assert bridge.port.released == 1


def test_result_never_taken_keeps_the_lease_briefly(bridge: Bridge, process: KernelLock) -> None:
    bridge.granted()
    process.close()
    bridge.next_news()
    bridge.timer()
    assert bridge.port.released == 1 and not bridge.lease.awaits_result
    bridge.lease.result_spread()
    assert bridge.port.timers == [RESULT_TAKEN_S]


def test_discovery_that_begins_meanwhile_keeps_the_lease(bridge: Bridge, process: KernelLock) -> None:
    bridge.granted()
    process.close()
    bridge.next_news()
    bridge.lease.result_spread()
    assert process.try_lock()
    bridge.ask()
    assert bridge.answers == [Answer(True)] * 2 and len(bridge.port.asked) == 1
    bridge.timer()
    assert bridge.port.released == 0, "it is in use again"
    process.close()
    assert bridge.next_news() == DISCOVERY_OVER
    bridge.lease.result_spread()
    bridge.timer()
    assert bridge.port.released == 1


def test_host_out_of_step_grants_nobody_the_lease(bridge: Bridge, process: KernelLock) -> None:
    bridge.lease.link_down()
    bridge.lease.link_up()
    bridge.ask()
    bridge.ask()
    assert (bridge.port.asked, bridge.answers) == ([], [])
    bridge.lease.in_step()
    bridge.lease.in_step()
    assert len(bridge.port.asked) == 1


def test_lost_link_frees_those_waiting_for_the_fleet(bridge: Bridge, process: KernelLock) -> None:
    bridge.lease.link_down()
    bridge.lease.link_up()
    bridge.ask()
    bridge.lease.link_down()
    assert bridge.answers[-1].value is None
    bridge.lease.in_step()
    assert bridge.port.asked == []


def test_refused_lease_is_a_no_for_all_askers(bridge: Bridge, process: KernelLock) -> None:
    bridge.ask()
    bridge.ask()
    (broker_says,) = bridge.port.asked
    broker_says(False)
    bridge.next_news()
    assert bridge.answers == [Answer(False)] * 2
    bridge.timer()
    assert bridge.port.released == 0


def test_lease_that_died_with_link_is_not_returned(bridge: Bridge, process: KernelLock) -> None:
    bridge.granted()
    bridge.lease.link_down()
    process.close()
    bridge.next_news()
    bridge.lease.result_spread()
    bridge.timer()
    assert (bridge.port.released, bridge.port.timers) == (0, [])
    bridge.ask()
    assert bridge.answers[-1].value is None and "no link" in bridge.answers[-1].error


def test_discovery_without_a_waiting_thread_keeps_the_lease(bridge: Bridge, process: KernelLock) -> None:
    with no_lock_waiters():
        bridge.granted()
        assert (bridge.answers, bridge.port.timers) == ([Answer(True)], [WATCH_AGAIN_S])
        bridge.ask()
        bridge.timer()
        assert (len(bridge.port.timers), bridge.port.released) == (1, 0)
        bridge.lease.timers[WATCH_TIMER]()
        assert bridge.port.timers == [WATCH_AGAIN_S] * 2
    bridge.lease.timers[WATCH_TIMER]()
    process.close()
    assert bridge.next_news() == DISCOVERY_OVER
    bridge.lease.result_spread()
    bridge.timer()
    assert bridge.port.released == 1
