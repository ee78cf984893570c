"""Programs that write on every host all the time, and whoever watches when the others see it."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from miros_cache_net.errors import CacheNetError, NoSpace
from miros_cache_net.testing import wait_until
from tests.scenarios.history import DELETED, History, Write
from tests.scenarios.members import Member

KEYS = 20
_PAUSE_S = 0.08
_WHOLE_PAUSE_S = 3.0
_LOOK_S = 0.05
_numbers = itertools.count()


class Load:
    """While its ``with`` block lasts, every host updates and deletes keys of its own.

    whole  one after the other also writes the whole document: not where clocks are wrong, because of two writes that
           knew nothing of each other the clocks decide then, and no checker knows which was first

    Every acknowledged write goes into `history`.
    """

    def __init__(self, members: Sequence[Member], history: History, rng: random.Random, *, whole: bool = True) -> None:
        self._members, self._history, self._rng, self._whole = members, history, rng, whole
        self.slowest_s = 0.0
        self.refused = 0
        self.failures: list[BaseException] = []
        self.beats = {member.name: Beats() for member in members}
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Load:
        self._ended.clear()
        works: list[Callable[[], None]] = [lambda each=each: self._update(each) for each in self._members]  # type: ignore[misc]
        if self._whole:
            works.append(self._write)
        self._threads = [threading.Thread(target=self._contained, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures

    def more(self, count: int = 20) -> None:
        """Wait for that many more writes."""
        so_far = len(self._history.writes)
        wait_until(
            lambda: self.failures or len(self._history.writes) >= so_far + count, timeout_s=60, what="the load"
        )  # fmt: skip
        assert not self.failures, self.failures

    def _contained(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)

    def _update(self, member: Member) -> None:
        beats = self.beats[member.name]
        while not self._ended.wait(self._rng.uniform(0, 2 * _PAUSE_S)):
            key, number = f"{member.name} {self._rng.randrange(KEYS)}", next(_numbers)
            value: Any = DELETED if self._rng.random() < 0.15 else number
            beat = {beat_key(member): number}
            if self._timed(lambda: _change(member, key, value, beat), {key: value, **beat}):  # noqa: B023
                beats.add(number)

    def _write(self) -> None:
        while not self._ended.wait(self._rng.uniform(0, 2 * _WHOLE_PAUSE_S)):
            self.write_whole(self._rng.choice(self._members))

    def write_whole(self, member: Member) -> None:
        contents = {"whole": next(_numbers), "time_out_in_minutes": 30}
        self._timed(lambda: member.write(contents), contents, whole=True)

    def _timed(self, work: Callable[[], Any], values: dict[str, Any], whole: bool = False) -> bool:
        """Whether it was acknowledged: a full disk takes no write, and says so."""
        began_s = time.monotonic()
        try:
            work()
        except NoSpace:
            self.refused += 1
            return False
        write = Write(values, began_s, time.monotonic(), whole)
        self.slowest_s = max(self.slowest_s, write.ended_s - write.began_s)
        self._history.add(write)
        return True


def _change(member: Member, key: str, value: Any, beat: dict[str, int]) -> None:
    if value is DELETED:
        member.update(beat, [key])
    else:
        member.update({key: value, **beat})


def beat_key(member: Member) -> str:
    """A key that each write of this host sets, to a greater number each time."""
    return f"{member.name} beat"


class Beats:
    """When each number of one host was acknowledged; written by one thread, read by another."""

    def __init__(self) -> None:
        self._all: list[tuple[int, float]] = []

    def add(self, number: int) -> None:
        self._all.append((number, time.monotonic()))

    def unseen_since(self, seen: int) -> float | None:
        """When the first number greater than `seen` was acknowledged; None if there is none."""
        since_s = None
        for number, at_s in reversed(self._all):
            if number <= seen:
                break
            since_s = at_s
        return since_s


class Watch:
    """Looks at every host's file while its ``with`` block lasts.

    longest_s  the longest that an acknowledged write of one host was not to be seen on another, nor a later one
    """

    def __init__(self, members: Sequence[Member], load: Load) -> None:
        self._members, self._load = members, load
        self.longest_s = 0.0
        self._seen: dict[tuple[str, str], int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            for reader in self._members:
                self._look(reader)

    def _look(self, reader: Member) -> None:
        try:
            contents = reader.cache.read().dict
        except CacheNetError:
            return
        now_s = time.monotonic()
        for writer in self._members:
            if writer is reader:
                continue
            # a whole write takes it away, until the next update comes
            seen = self._seen.get((reader.name, writer.name), -1)
            seen = self._seen[reader.name, writer.name] = max(seen, contents.get(beat_key(writer), -1))
            since_s = self._load.beats[writer.name].unseen_since(seen)
            self.longest_s = max(self.longest_s, 0.0 if since_s is None else now_s - since_s)
