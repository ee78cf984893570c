"""Hosts that write for a long time while RabbitMQ and their own processes are killed, stopped and restarted.

Half a minute long in an ordinary run.  ``MIROS_CACHE_SOAK_MINUTES=10 pytest -s tests/soak`` makes it as long as that;
what came of it is printed at the end, and of the last long one in docs/explanation/what-was-tried.md.
``MIROS_CACHE_SOAK_SEED`` repeats the choice of faults.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import Fleet, RabbitServer, wait_until
from tests.soak.history import History
from tests.soak.load import Held, Load, SoakHost

MINUTES = float(os.environ.get("MIROS_CACHE_SOAK_MINUTES", "0.1"))
SEED = os.environ.get("MIROS_CACHE_SOAK_SEED", str(time.time_ns()))
#: After this much load all writers rest, until the hosts agree.
ROUND_S = 60.0
#: What the interpreter and the C library keep without anything having leaked.
GROWTH_MB = 20.0


@pytest.fixture
def rabbit() -> Iterator[RabbitServer]:
    """One that may be mistreated."""
    with RabbitServer() as server:
        yield server


@pytest.fixture
def hosts(tmp_path: Path, rabbit: RabbitServer) -> Iterator[list[SoakHost]]:
    with Fleet(tmp_path, rabbit.url, kind="process") as fleet:
        made = [SoakHost(fleet.add(name)) for name in ("alpha", "beta", "gamma")]
        wait_until(lambda: all(host.in_step() for host in made), timeout_s=60, what="all hosts to join")
        wait_until(lambda: all(host.is_settled() for host in made), timeout_s=60, what="all hosts to settle")
        wait_until(lambda: rabbit.connection_count() == 2 * len(made), timeout_s=60, what="one link a host")
        for contents in ({"warm": True}, {}):  # every process has read the file
            fleet[0].write(contents)
            fleet.agree()
        yield made


class Faults:
    """What befalls the fleet; the first host's processes are never killed, so that what they keep can be told."""

    def __init__(self, rabbit: RabbitServer, hosts: list[SoakHost], rng: random.Random) -> None:
        self._rabbit, self._hosts, self._rng = rabbit, hosts, rng
        self.happened: Counter[str] = Counter()

    def one(self, load: Load) -> None:
        """A fault of some kind, over when this returns."""
        faults: list[Callable[[Load], None]] = [
            self.bridge_killed,
            self.follower_killed,
            self.connections_closed,
            self.broker_killed,
            self.bridge_paused,
            self.broker_paused,
            self.broker_restarted,
        ]
        # each kind once before any comes again
        least = min(self.happened[fault.__name__] for fault in faults)
        fault = self._rng.choice([fault for fault in faults if self.happened[fault.__name__] == least])
        fault(load)
        self.happened[fault.__name__] += 1

    def broker_killed(self, load: Load) -> None:
        self._rabbit.kill()
        load.more()
        self._rabbit.start()

    def broker_restarted(self, load: Load) -> None:
        self._rabbit.restart()

    def broker_paused(self, load: Load) -> None:
        self._rabbit.pause()
        # long enough to be noticed, or just too short
        self._rest(self._rng.choice((2.0, 9.0)))
        self._rabbit.resume()

    def connections_closed(self, load: Load) -> None:
        self._rabbit.ctl("close_all_connections", "--global", "maintenance")

    def bridge_killed(self, load: Load) -> None:
        host = self._rng.choice(self._hosts[1:])
        host.kill(host.of_role("bridge"))

    def follower_killed(self, load: Load) -> None:
        host = self._rng.choice(self._hosts[1:])
        host.kill(host.of_role("follower"))

    def bridge_paused(self, load: Load) -> None:
        bridge = self._rng.choice(self._hosts).of_role("bridge")
        bridge.signal(signal.SIGSTOP)
        self._rest(self._rng.choice((0.5, 3.0)))
        bridge.signal(signal.SIGCONT)

    @staticmethod
    def _rest(seconds: float) -> None:
        time.sleep(seconds)  # how long a fault lasts is what it is, not something to be waited for


def agreed(hosts: list[SoakHost], history: History) -> float:
    """Seconds until all hosts have one document; it holds every acknowledged write that no other has overtaken."""
    began_s = time.monotonic()

    def look() -> bool:
        faults = history.faults_of(hosts[0].host.cache.read().dict)
        assert not faults, faults[:10]
        return len({host.host.cache.read().version for host in hosts}) == 1

    wait_until(look, timeout_s=90, what=f"agreement (seed {SEED})")
    return time.monotonic() - began_s


@pytest.mark.slow
def test_after_all_faults_the_hosts_agree_lose_nothing_and_keep_nothing(
    rabbit: RabbitServer, hosts: list[SoakHost]
) -> None:
    rng, history, waits_s = random.Random(SEED), History(), list[float]()
    load, faults = Load(hosts, history, rng), Faults(rabbit, hosts, rng)
    before, memory_mb = hosts[0].held(), list[float]()
    faulthandler.cancel_dump_traceback_later()  # how long this takes is no sign of a deadlock
    end_s = time.monotonic() + MINUTES * 60
    while not waits_s or time.monotonic() < end_s:
        round_end_s = min(end_s, time.monotonic() + ROUND_S)
        with load:
            load.more()
            while time.monotonic() < round_end_s:
                faults.one(load)
                load.more()
        waits_s.append(agreed(hosts, history))
        wait_until(lambda: all(host.in_step() for host in hosts), timeout_s=60, what="all hosts to be in step")
        wait_until(lambda: rabbit.connection_count() == 2 * len(hosts), timeout_s=60, what="one link a host")
        memory_mb.append(sum(each.memory_mb for each in hosts[0].held()))
    after = hosts[0].held()
    print(json.dumps({
        "seed": SEED,
        "minutes": MINUTES,
        "acknowledged writes": len(history.writes),
        "of the whole document": sum(write.whole for write in history.writes),
        "slowest write, s": round(load.slowest_s, 3),
        "faults": dict(faults.happened),
        "agreement after each round, s": [round(seconds, 2) for seconds in waits_s],
        "held by the first host's processes before": [each._asdict() for each in before],
        "and after": [each._asdict() for each in after],
        "their memory after each round, MB": [round(each, 1) for each in memory_mb],
    }))  # fmt: skip
    wait_until(lambda: no_more(before, hosts[0].held()), what=f"{hosts[0].held()} to be no more than {before}")
    assert load.slowest_s < 5


def no_more(before: list[Held], after: list[Held]) -> bool:
    return all(
        now.threads <= then.threads
        and now.descriptors <= then.descriptors
        and now.memory_mb <= then.memory_mb + GROWTH_MB
        for then, now in zip(before, after, strict=True)
    )
