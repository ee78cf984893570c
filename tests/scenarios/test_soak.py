"""Hosts that write for a long time while faults of the list befall them at random.

Half a minute long in an ordinary run; ``script/soak 30`` makes it as long as that, and prints what came of it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from miros_cache_net.testing import wait_until
from tests.scenarios import world as worlds
from tests.scenarios.history import History
from tests.scenarios.load import Load, Watch
from tests.scenarios.members import ProcessMember
from tests.scenarios.playing import agreed, begin_anew
from tests.scenarios.scenarios import PROCESSES, SCENARIOS, Scenario
from tests.scenarios.world import World

MINUTES = float(os.environ.get("MIROS_CACHE_SOAK_MINUTES", "0.1"))
SEED = os.environ.get("MIROS_CACHE_SOAK_SEED", str(time.time_ns()))
#: After this much load all writers rest, until the hosts agree.
ROUND_S = 60.0
#: In the last part clocks are wrong, and nobody writes the whole document.  Not before: once a clock was an hour ahead,
#: stamps tell nothing of the time, and which of two writes that knew nothing of each other wins is open.
CLOCKS_FROM = 0.67
#: What the interpreter and the C library keep without anything having leaked.
GROWTH_MB = 20.0


class Held(NamedTuple):
    """What a process holds of the machine."""

    threads: int
    descriptors: int
    memory_mb: float


def held_by(member: ProcessMember) -> list[Held]:
    """By its processes, the bridge first."""
    return [_held(member.of_role(role).pid) for role in ("bridge", "follower")]


def _held(pid: int) -> Held:
    place = Path(f"/proc/{pid}")
    pages = int((place / "statm").read_text().split()[1])
    memory_mb = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Held(len(os.listdir(place / "task")), len(os.listdir(place / "fd")), round(memory_mb, 1))


class Soak:
    """Rounds of faults; the last host's processes are never ended, so that what they keep can be told."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.happened: Counter[str] = Counter()
        self.waits_s: list[float] = []
        self.writes = 0
        self.slowest_s = self.unseen_s = 0.0

    def round(self, end_s: float, *, of_clocks: bool) -> None:
        """Faults until then, at least one; afterwards all agree, have lost nothing, and are healthy."""
        history = History()
        begin_anew(self.world, history)
        load = Load(self.world.members, history, self.rng, whole=not of_clocks)
        with Watch(self.world.members, load) as watch:
            with load:
                load.more()
                while True:
                    self._one(self._next(of_clocks), load)
                    if time.monotonic() >= end_s:
                        break
            self.waits_s.append(agreed(self.world, history))
        self.writes += len(history.writes)
        self.slowest_s = max(self.slowest_s, load.slowest_s)
        self.unseen_s = max(self.unseen_s, watch.longest_s)
        self.world.wait_healthy()

    def _next(self, of_clocks: bool) -> Scenario:
        """Each kind once before any comes again."""
        fit = [each for each in SCENARIOS if PROCESSES in each.kinds and each.in_soak]
        can = [each for each in fit if of_clocks or not each.has_times]
        least = min(self.happened[each.name] for each in can)
        return self.rng.choice([each for each in can if self.happened[each.name] == least])

    def _one(self, scenario: Scenario, load: Load) -> None:
        self.world.victims[:2] = self.rng.sample(self.world.victims[:2], 2)
        scenario.prepare(self.world, load)
        scenario.begin(self.world, load)
        try:
            # long enough to be noticed, or too short; how long a fault lasts is what it is
            time.sleep(self.rng.choice((0.5, 3.0, 15.0)))
        finally:
            scenario.end(self.world, load)
        self.happened[scenario.name] += 1
        load.more()


@pytest.mark.slow
def test_hosts_agree_and_lose_nothing_after_all_faults(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # how long this takes is no sign of a deadlock
    print(f"\nsoak: {MINUTES:g} minutes, seed {SEED}", flush=True)
    with worlds.processes(tmp_path) as world:
        world.wait_healthy()
        spared = world.members[-1]
        assert isinstance(spared, ProcessMember)
        world.victims = list(world.members[:-1])
        soak = Soak(world, random.Random(SEED))
        before, end_s = held_by(spared), time.monotonic() + MINUTES * 60
        while not soak.waits_s or time.monotonic() < end_s:
            left = (end_s - time.monotonic()) / (MINUTES * 60)
            soak.round(min(end_s, time.monotonic() + ROUND_S), of_clocks=left < 1 - CLOCKS_FROM)
            print(f"soak: round {len(soak.waits_s)}, {soak.writes} writes, none lost", flush=True)
        after = held_by(spared)
        print(json.dumps({
            "seed": SEED,
            "minutes": MINUTES,
            "acknowledged writes": soak.writes,
            "lost": 0,
            "slowest write, s": round(soak.slowest_s, 3),
            "longest unseen, s": round(soak.unseen_s, 1),
            "faults": dict(sorted(soak.happened.items())),
            "agreement after each round, s": [round(seconds, 2) for seconds in soak.waits_s],
            "held by the spared host's processes before": [list(each) for each in before],
            "and after": [list(each) for each in after],
        }), flush=True)  # fmt: skip
        wait_until(lambda: no_more(before, held_by(spared)), what=f"{after} to be no more than {before}")


def no_more(before: list[Held], after: list[Held]) -> bool:
    return all(
        now.threads <= then.threads
        and now.descriptors <= then.descriptors
        and now.memory_mb <= then.memory_mb + GROWTH_MB
        for then, now in zip(before, after, strict=True)
    )
