"""Hosts whose clocks are an hour off, each access a process: what they acknowledged stays when the clocks are mended.

A host is a directory; what it holds travels as the text that goes over the wire.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.clock import SYSTEM_CLOCK, SystemClock
from miros_cache_net.document import strict_json
from miros_cache_net.document.value import Document
from miros_cache_net.store.changes import Merge
from miros_cache_net.store.file_store import FileStore
from tests.multiprocess.children import Child

HOUR_MS = 3_600_000


class ShiftedClock(SystemClock):
    """This machine's clock, set wrong."""

    def __init__(self, by_ms: int) -> None:
        self._by_ms = by_ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self._by_ms


class Host:
    """One host's file; each access is a process of its own, with the clock of that moment."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.path = directory / "cache.json"
        self.clock_ms = 0

    def update(self, changes: dict[str, Any], delete: tuple[str, ...] = ()) -> None:
        self._run(lambda cache: cache.update(changes, delete))

    def write(self, contents: dict[str, Any]) -> None:
        self._run(lambda cache: cache.write(contents))

    def hear(self, other: Host) -> None:
        """Merge what `other` holds now."""
        document = Document.from_json(strict_json.loads(other.path.read_bytes()))

        def merge() -> None:
            store = FileStore(self.path, clock=ShiftedClock(self.clock_ms))
            with store.entered():
                store.apply([Merge(document)], _raise)
            store.close()

        assert Child(lambda _writer: merge()).join() == 0

    def read(self) -> dict[str, Any]:
        """What anybody reads, without stamps."""
        contents = json.loads(self.path.read_bytes())
        return {key: value for key, value in contents.items() if not key.startswith("_")}

    def _run(self, work: Callable[[Cache], Any]) -> None:
        def in_child(_writer: int) -> None:
            with Cache(self.path, clock=ShiftedClock(self.clock_ms)) as cache:
                work(cache)

        assert Child(in_child).join() == 0


def _raise(_change: object, error: Exception) -> None:
    raise error


def agree(*hosts: Host) -> dict[str, Any]:
    """Everybody hears everybody; what all hold then."""
    for one in hosts:
        for other in hosts:
            one.hear(other)
    for host in hosts:
        host.hear(hosts[0])
    held = [host.read() for host in hosts]
    assert all(each == held[0] for each in held)
    return held[0]


@pytest.fixture(name="fleet")
def old_fleet(tmp_path: Path) -> Host:
    """A host of a fleet that has held a document for a while, with its clock right."""
    fleet = Host(tmp_path / "fleet")
    fleet.write({"a": 1, "honest": True})
    return fleet


@pytest.fixture(name="host")
def new_host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.mark.parametrize("clock_ms", [-HOUR_MS, 0, HOUR_MS])
def test_a_fresh_host_takes_nothing_from_the_fleet(fleet: Host, host: Host, clock_ms: int) -> None:
    host.clock_ms = clock_ms
    host.update({"mine": 3})
    host.clock_ms = 0
    host.update({"later": 4})
    held = agree(fleet, host)
    assert {key: held.get(key) for key in ("a", "honest", "later")} == {"a": 1, "honest": True, "later": 4}
    # who is cut off and behind the newest whole write loses
    assert ("mine" in held) is (clock_ms >= 0)


@pytest.mark.parametrize("restarted", [False, True])
def test_what_a_clock_that_fell_back_wrote_stays(fleet: Host, host: Host, restarted: bool) -> None:
    host.hear(fleet)
    host.clock_ms = -HOUR_MS
    host.update({"mine": 1}, ("honest",))
    if not restarted:
        fleet.hear(host)
    host.clock_ms = 0
    fleet.update({"a": 2})
    assert agree(fleet, host) == {"a": 2, "mine": 1}
    host.update({"mine": 2})
    assert agree(fleet, host) == {"a": 2, "mine": 2}


def test_sixty_keys_of_host_behind_survive_mending(fleet: Host, host: Host) -> None:
    host.clock_ms = -HOUR_MS
    host.hear(fleet)
    keys = {f"key-{number}": number for number in range(60)}
    for key, number in keys.items():
        if number == 20:
            fleet.update({"theirs": 1})
        if number == 40:
            host.hear(fleet)
            host.clock_ms = 0
        host.update({key: number})
    assert agree(fleet, host) == {"a": 1, "honest": True, "theirs": 1, **keys}


def test_host_ahead_and_host_behind_keep_all_keys(fleet: Host, host: Host, tmp_path: Path) -> None:
    ahead = Host(tmp_path / "ahead")
    ahead.clock_ms, host.clock_ms = HOUR_MS, -HOUR_MS
    for each in (ahead, host):
        each.hear(fleet)
    ahead.update({"ahead": 1})
    host.update({"behind": 1})
    agree(fleet, host, ahead)
    host.update({"ahead": 2}, ("a",))
    ahead.clock_ms = host.clock_ms = 0
    ahead.update({"behind": 2})
    assert agree(fleet, host, ahead) == {"honest": True, "ahead": 2, "behind": 2}


def test_whole_write_with_right_clock_ends_future_keys(fleet: Host, host: Host) -> None:
    host.clock_ms = HOUR_MS
    host.write({"ahead": 1})
    fleet.hear(host)
    assert fleet.read() == {"ahead": 1}
    assert Document.from_json(strict_json.loads(fleet.path.read_bytes())).ahead_ms(SYSTEM_CLOCK.wall_ms()) > HOUR_MS / 2
    fleet.write({"right": 1})
    assert agree(fleet, host) == {"right": 1}
