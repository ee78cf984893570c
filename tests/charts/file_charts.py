"""What the tests of the cache file chart share: building charts on files, and strangers who know only the mode bit."""

from __future__ import annotations

import json
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.document.layout import META_KEY
from miros_cache_net.events import CACHE, CACHE_DESTROY, CACHE_ERROR, CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.testing import wait_until
from tests.charts.recorder import Recorder

SIGNALS = (CACHE, CACHE_ERROR)


class SoonRandom(random.Random):
    """Waits as short as allowed, and remembers the bounds that were asked for."""

    def __init__(self) -> None:
        super().__init__(1)
        self.bounds: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append((a, b))
        return a


class NeverRandom(SoonRandom):
    """Waits far longer than any test: only who is told that the file is free gets on."""

    def uniform(self, a: float, b: float) -> float:
        return super().uniform(a, b) + 1000.0


class Bench:
    """One directory, a recorder of what is published, and charts that are stopped when the test is over."""

    def __init__(self, directory: Path, stopping: Callable[[Any], Any]) -> None:
        self.directory = directory
        self.path = directory / "cache.json"
        self._stopping = stopping
        self.heard: Recorder = stopping(Recorder(*SIGNALS))

    def chart(self, path: Path | str | None = None, **options: Any) -> CacheFileChart:
        chart: CacheFileChart = self._stopping(CacheFileChart(path or self.path, **options))
        return chart

    def caches(self, count: int) -> list[Any]:
        """The payloads of the first `count` CACHE events, waited for."""
        self.heard.wait_for(lambda events: sum(e.signal_name == CACHE for e in events) >= count)
        return [e.payload for e in self.heard.events if e.signal_name == CACHE][:count]

    def errors(self, count: int = 1) -> list[Any]:
        """The payloads of the first `count` CACHE_ERROR events, waited for."""
        self.heard.wait_for(lambda events: sum(e.signal_name == CACHE_ERROR for e in events) >= count)
        return [e.payload for e in self.heard.events if e.signal_name == CACHE_ERROR][:count]

    def read(self, **publish: Any) -> Any:
        """What a fresh CACHE_FILE_READ is answered with."""
        before = sum(e.signal_name == CACHE for e in self.heard.events)
        self.heard.publish(event(CACHE_FILE_READ, **publish))
        return self.caches(before + 1)[-1]

    def write(self, payload: Any) -> None:
        self.heard.publish(event(CACHE_FILE_WRITE, payload))

    def destroy(self, payload: Any = None) -> None:
        self.heard.publish(event(CACHE_DESTROY, payload))


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for it, long enough for a busy machine."""
    wait_until(condition, 30.0, what)


def on_disk(path: Path) -> dict[str, Any]:
    """The contents as a program that knows nothing of us reads them."""
    contents: dict[str, Any] = json.loads(path.read_text())
    contents.pop(META_KEY, None)
    return contents


def make_unwritable(path: Path) -> None:
    """As a program that knows only the mode bit: once nobody else is inside."""
    until(lambda: is_writable(path), "the file to be free")
    os.chmod(path, 0o444)


def make_writable(path: Path) -> None:
    os.chmod(path, 0o644)


def is_writable(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o222)


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))
