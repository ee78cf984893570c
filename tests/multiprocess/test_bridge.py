"""One bridge a host and its followers, as real processes that are killed and stopped."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.document import strict_json
from miros_cache_net.errors import PermissionRefused
from miros_cache_net.fleet.host_side import HostSide
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.bridge_lock import bridge_lock_path
from miros_cache_net.host.messages import State
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import Fleet, Host, NodeProcessFailed, RabbitServer, wait_until
from tests.multiprocess.children import Child, join_all, say
from tests.multiprocess.host_process import HostProcess

Start = Callable[..., list[HostProcess]]
KEY = generate_key().decode()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts that many processes of one host, and waits until they know their place."""
    processes: list[HostProcess] = []

    def start_some(number: int, broker: str | None = None) -> list[HostProcess]:
        made = [HostProcess(tmp_path / "cache.json", KEY, broker) for _ in range(number)]
        processes.extend(made)
        for each in made:
            wait_until(lambda each=each: each.status()["connected"], timeout_s=60, what="its place")  # type: ignore[misc]
        return made

    yield start_some
    for each in processes:
        if each.running:
            each.signal(signal.SIGCONT)
    for each in processes:
        each.stop()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache.json") as made:
        yield made


def split(processes: list[HostProcess]) -> tuple[HostProcess, list[HostProcess]]:
    """The bridge and its followers."""
    roles = {each: each.role for each in processes}
    (bridge,) = [each for each, role in roles.items() if role == "bridge"]
    return bridge, [each for each, role in roles.items() if role == "follower"]


def test_twenty_followers_hear_every_writer_without_a_watch(start: Start, cache: Cache) -> None:
    processes = start(1) + start(20)
    bridge, followers = split(processes)
    assert len(followers) == 20
    cache.write({"n": 1})
    for each in processes:
        each.wait_for(contents={"n": 1}, connected=True)
    followers[7].write({"n": 2})
    for each in processes:
        each.wait_for(contents={"n": 2}, connected=True)
    assert [each.watches() for each in (bridge, followers[0], followers[19])] == [1, 0, 0]
    assert bridge.status()["counters"]["followers"] == 20
    assert bridge.status()["counters"]["notices_sent"] >= 40
    assert followers[0].status()["counters"]["bridges_met"] == 1
    assert followers[0].status()["broker"] == "nowhere"


def test_follower_loads_no_pika_cryptography_or_inotify(start: Start, cache: Cache) -> None:
    bridge, (follower,) = split(start(1) + start(1))
    follower.write({"n": 1})
    bridge.wait_for(contents={"n": 1})
    cache.write({"n": 2})
    follower.wait_for(contents={"n": 2}, connected=True)
    assert follower.ask("read_fleet", timeout_s=3.0) is None
    assert follower.ask("modules") == []
    assert "cryptography" in bridge.ask("modules")


def test_killed_bridges_are_replaced_without_a_missed_change(start: Start, cache: Cache) -> None:
    processes = start(10)
    written = itertools.count(1)
    took_s: list[float] = []
    while len(processes) > 2:
        bridge, processes = split(processes)
        cache.write({"n": next(written)})
        killed_s = time.monotonic()
        bridge.kill()
        last = next(written)
        cache.write({"n": last})  # falls into the switch-over
        seen = [each.wait_for(contents={"n": last})["at_s"] for each in processes]
        took_s.append(max(seen) - killed_s)
        for each in processes:
            wait_until(lambda each=each: each.status()["connected"], what="the next bridge")  # type: ignore[misc]
            assert each.said()[-1].get("reason") is None
    print(f"change across a takeover reached all: median {statistics.median(took_s):.3f} s, most {max(took_s):.3f} s")
    assert [line for each in processes for line in each.errors()] == []


def test_stopped_bridge_hangs_nobody_and_recovers(start: Start, cache: Cache) -> None:
    bridge, followers = split(start(1) + start(3))
    bridge.signal(signal.SIGSTOP)
    cache.write({"n": 1})
    for each in followers:
        each.wait_for(contents={"n": 1})
        each.wait_for(reason="bridge")
        wait_until(lambda each=each: not each.status()["connected"], what="connected to be False")  # type: ignore[misc]
    followers[0].write({"n": 2})
    for each in followers:
        each.wait_for(contents={"n": 2}, connected=False)
    with pytest.raises(NodeProcessFailed, match="is its process stopped"):
        followers[0].ask("read_fleet", timeout_s=0.2)
    bridge.signal(signal.SIGCONT)
    for each in followers:
        wait_until(lambda each=each: each.status()["connected"], what="the bridge to be back")  # type: ignore[misc]
        assert each.watches() == 0
    bridge.wait_for(contents={"n": 2})
    cache.write({"n": 3})
    for each in followers:
        each.wait_for(contents={"n": 3}, connected=True)
        assert sum(line.get("reason") == "bridge" for line in each.said()) == 1


def test_stopped_follower_delays_nobody_and_catches_up(start: Start, cache: Cache) -> None:
    _, followers = split(start(1) + start(3))
    sleeper, *awake = followers
    sleeper.signal(signal.SIGSTOP)
    # a notice of each, far more than the kernel keeps for one that does not read
    for number in range(1, 151):
        cache.write({"n": number})
        awake[0].wait_for(contents={"n": number}, connected=True)
    awake[1].wait_for(contents={"n": 150}, connected=True)
    sleeper.signal(signal.SIGCONT)
    sleeper.wait_for(contents={"n": 150})
    assert [line for each in awake for line in each.errors()] == []


def test_follower_asleep_during_takeover_catches_up(start: Start, cache: Cache) -> None:
    bridge, (sleeper, heir) = split(start(1) + start(2))
    sleeper.signal(signal.SIGSTOP)
    bridge.kill()
    wait_until(lambda: (s := heir.status())["connected"] and s["role"] == "bridge", what="the next bridge")
    cache.write({"n": 1})
    heir.wait_for(contents={"n": 1}, connected=True)
    # all that it is told when it wakes is true already: no notice of a change follows
    sleeper.signal(signal.SIGCONT)
    sleeper.wait_for(contents={"n": 1}, connected=True)


def test_bridge_that_ends_in_good_order_hands_over(start: Start, cache: Cache) -> None:
    bridge, followers = split(start(1) + start(2))
    # its process goes on: what this lets go of only when it ends is of no use to the others
    bridge.ask("stop")
    wait_until(lambda: any(each.role == "bridge" for each in followers), what="the successor")
    successor, (follower,) = split(followers)
    cache.write({"n": 1})
    follower.wait_for(contents={"n": 1}, connected=True)
    assert successor.status()["counters"]["followers"] == 1


def test_followers_without_a_socket_watch_the_file(tmp_path: Path, start: Start, cache: Cache) -> None:
    (probe,) = start(1)
    (socket_path,) = tmp_path.glob(".bridge-*.sock")
    probe.kill()
    assert socket_path.exists()
    # no socket can be made under a name that a directory has
    socket_path.with_name(socket_path.name + ".new").mkdir()
    bridge, (follower,) = split(start(1) + start(1))
    cache.write({"n": 1})
    follower.wait_for(contents={"n": 1}, connected=True)
    assert follower.watches() == 1
    assert "followers" not in bridge.status()["counters"]


# --- with a broker ------------------------------------------------------------------------------------


@pytest.fixture
def other_host(tmp_path: Path, rabbit_server: RabbitServer) -> Iterator[Host]:
    with Fleet(tmp_path / "others", rabbit_server.url, keys=KEY, exchange="miros.cache.exchange") as hosts:
        yield hosts.add("other")


def fleet_settings(start: Start, url: str) -> Any:
    return split(start(1, url) + start(2, url))


def test_followers_ask_the_fleet_through_their_bridge(
    start: Start, other_host: Host, rabbit_server: RabbitServer
) -> None:
    _, followers = fleet_settings(start, rabbit_server.url)
    other_host.write({"n": 5})
    for each in followers:
        each.wait_for(contents={"n": 5}, connected=True)
    wait_until(lambda: rabbit_server.connection_count() == 4, what="those of earlier tests to be gone")
    assert [each.ask("read_fleet", timeout_s=5.0) for each in followers] == [{"n": 5}] * 2
    statuses = followers[0].ask("fleet_status", timeout_s=5.0)
    assert [(status["node"].rsplit("-", 1)[0], status["role"]) for status in statuses] == [
        ("host", "bridge"),
        ("other", "bridge"),
    ]
    assert statuses[0]["counters"]["followers"] == 2
    assert KEY not in str(statuses)
    assert rabbit_server.connection_count() == 4
    assert [each.ask("modules") for each in followers] == [[], []]


def test_followers_learn_why_the_link_is_down(start: Start) -> None:
    with RabbitServer() as rabbit:
        _, followers = fleet_settings(start, rabbit.url)
        rabbit.kill()
        for each in followers:
            each.wait_for(connected=False)
            status = wait_until(lambda each=each: (s := each.status())["trouble"] and s, what="the trouble")  # type: ignore[misc]
            assert not status["connected"]
        with pytest.raises(NodeProcessFailed, match="BrokerUnreachable"):
            followers[0].ask("read_fleet", timeout_s=5.0)
        rabbit.start()
        for each in followers:
            wait_until(lambda each=each: each.status()["connected"], timeout_s=60, what="the link")  # type: ignore[misc]


# --- several users --------------------------------------------------------------------------------------

GROUP = 2345
needs_root = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can be several users")


class Chart:
    """Stands for the node that owns a `HostSide`."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def bridge_event(self, name: str, payload: Any = None) -> None:
        self.events.append(name)

    def report(self, reason: Any, message: str) -> None:
        self.events.append(message)


def lead(writer: int, path: Path) -> None:
    side = HostSide(Chart(), path, ["fleet"], Registry())
    assert side.start()
    side.serve()
    side.tell(State("v1", True))
    say(writer, "leads")
    signal.pause()


def follow(writer: int, path: Path) -> None:
    side = HostSide(Chart(), path, ["fleet"], Registry())
    side.start()
    wait_until(lambda: side.told == State("v1", True), what="the bridge's state")
    side.stop()


@pytest.fixture
def parsed_before() -> None:
    # what Python loads late may lie in a directory of root's
    strict_json.loads(b"{}")


def intrude(writer: int, path: Path) -> None:
    with pytest.raises(PermissionRefused):
        HostSide(Chart(), path, ["fleet"], Registry())
    with pytest.raises(PermissionError):
        SocketAddress(bridge_lock_path(path, ["fleet"])).connect()


@needs_root
@pytest.mark.usefixtures("parsed_before")
def test_only_group_members_share_the_bridge(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 0, GROUP)
    shared.chmod(0o775)
    for parent in (tmp_path, *tmp_path.parents):
        if "pytest-" in str(parent):
            parent.chmod(parent.stat().st_mode | 0o055)
    bridge = Child(lead, shared / "cache.json", uid=1234, gid=GROUP)
    try:
        wait_until(lambda: list(shared.glob(".bridge-*.sock")), what="the socket")
        members = [Child(follow, shared / "cache.json", uid=uid, gid=gid) for uid, gid in ((1235, GROUP), (0, 0))]
        assert join_all([*members, Child(intrude, shared / "cache.json", uid=1236, gid=1236)]) == [0, 0, 0]
    finally:
        bridge.kill()
        bridge.join()
