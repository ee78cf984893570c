"""One host's part in discovering once a fleet: when its bridge asks for the lease, keeps it and gives it back."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miros_cache_net.fleet.fleet_lease import RESULT_UNDER_WAY_S, FleetLease
from miros_cache_net.host.messages import LEASE
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.store.kernel_lock import KernelLock

AMPLE_S = 20.0


class Port:
    """Notes what the broker and the timers are asked for."""

    def __init__(self) -> None:
        self.asked: list[Callable[[bool], None]] = []
        self.released = 0
        self.timers: list[float] = []
        self.news: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        self.asked.append(done)

    def release_lease(self) -> None:
        self.released += 1

    def after(self, name: str, delay_s: float) -> None:
        self.timers.append(delay_s)

    def lease_event(self, name: str, held: bool) -> None:
        self.news.put((name, held))


class Bridge:
    """The lease and its owner's thread, which is the test's."""

    def __init__(self, path: Path) -> None:
        self.port = Port()
        self.lease = FleetLease(self.port, path)
        self.lease.link_up()
        self.lease.in_step()
        self.answers: list[Answer] = []

    def ask(self) -> None:
        self.lease.ask(Question(LEASE, time.monotonic() + AMPLE_S, self.answers.append))

    def next_news(self) -> str:
        name, held = self.port.news.get(timeout=AMPLE_S)
        if name == "answered":
            self.lease.answered(held)
        else:
            self.lease.discovery_over()
        return name

    def granted(self) -> None:
        """Asked by a process that has the discovery lock, and granted by the broker."""
        self.ask()
        self.port.asked[-1](True)
        assert self.next_news() == "answered"


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


def test_the_lease_is_kept_until_the_result_has_reached_the_others(bridge: Bridge, process: KernelLock) -> None:
    bridge.granted()
    assert bridge.answers == [Answer(True)]
    process.close()
    assert bridge.next_news() == "discovery_over"
    assert (bridge.port.released, bridge.port.timers) == (0, [RESULT_UNDER_WAY_S])
    bridge.lease.timer()
    assert bridge.port.released == 1
    bridge.lease.timer()
    assert bridge.port.released == 1


def test_a_discovery_of_this_host_that_begins_meanwhile_keeps_it(bridge: Bridge, process: KernelLock) -> None:
    bridge.granted()
    process.close()
    bridge.next_news()
    assert process.try_lock()
    bridge.ask()
    assert bridge.answers == [Answer(True)] * 2 and len(bridge.port.asked) == 1
    bridge.lease.timer()
    assert bridge.port.released == 0, "it is in use again"
    process.close()
    assert bridge.next_news() == "discovery_over"
    bridge.lease.timer()
    assert bridge.port.released == 1


def test_nobody_is_granted_the_lease_before_this_host_is_in_step(bridge: Bridge, process: KernelLock) -> None:
    bridge.lease.link_down()
    bridge.lease.link_up()
    bridge.ask()
    bridge.ask()
    assert (bridge.port.asked, bridge.answers) == ([], [])
    bridge.lease.in_step()
    bridge.lease.in_step()
    assert len(bridge.port.asked) == 1


def test_who_waits_for_the_fleet_when_the_link_is_lost_goes_on(bridge: Bridge, process: KernelLock) -> None:
    bridge.lease.link_down()
    bridge.lease.link_up()
    bridge.ask()
    bridge.lease.link_down()
    assert bridge.answers[-1].value is None
    bridge.lease.in_step()
    assert bridge.port.asked == []


def test_a_refused_lease_is_a_no_for_all_who_asked(bridge: Bridge, process: KernelLock) -> None:
    bridge.ask()
    bridge.ask()
    (broker_says,) = bridge.port.asked
    broker_says(False)
    bridge.next_news()
    assert bridge.answers == [Answer(False)] * 2
    bridge.lease.timer()
    assert bridge.port.released == 0


def test_a_lease_that_died_with_the_link_is_not_given_back(bridge: Bridge, process: KernelLock) -> None:
    bridge.granted()
    bridge.lease.link_down()
    process.close()
    bridge.next_news()
    bridge.lease.timer()
    assert (bridge.port.released, bridge.port.timers) == (0, [])
    bridge.ask()
    assert bridge.answers[-1].value is None and "no link" in bridge.answers[-1].error
