"""One scenario on one world: what happened, what was lost, who saw what how late, and what `health` said."""

from __future__ import annotations

import contextlib
import random
import re
import time
from typing import NamedTuple

from miros_cache_net.errors import CacheNetError
from miros_cache_net.testing import wait_until
from tests.scenarios.history import History, Write
from tests.scenarios.load import Load, Watch
from tests.scenarios.scenarios import EVERYBODY, ONE, Scenario
from tests.scenarios.world import HealthLog, World

#: A busy machine runs the one that asks and the one that is asked late.
_LATE_S = 10.0


class Played(NamedTuple):
    """A row of the table."""

    scenario: str
    kind: str
    writes: int
    lost: int
    agreed_s: float
    unseen_s: float
    said: str
    well_s: float


def play(world: World, scenario: Scenario, rng: random.Random) -> Played:
    """AssertionError where hosts do not agree, a write is lost, or `health` does not tell the truth in time."""
    world.wait_healthy()
    history = History()
    begin_anew(world, history)
    load = Load(world.members, history, rng, whole=scenario.whole and not scenario.has_times)
    with contextlib.ExitStack() as stack:
        logs = {each.name: stack.enter_context(HealthLog(each)) for each in world.members}
        watch = stack.enter_context(Watch(world.members, load))
        with load:
            scenario.prepare(world, load)
            load.more()
            began_s = time.monotonic()
            scenario.begin(world, load)
            try:
                said = _what_was_said(scenario, world, logs, began_s)
                load.more(40)
            finally:
                scenario.end(world, load)
            load.more()
        agreed_s = agreed(world, history)
    well_s = world.wait_healthy()
    return Played(
        scenario.name, world.kind, len(history.writes), 0, agreed_s, watch.longest_s, said, well_s
    )  # fmt: skip


def begin_anew(world: World, history: History) -> None:
    began_s = time.monotonic()
    world.members[0].write({})
    history.add(Write({}, began_s, time.monotonic(), whole=True))
    agreed(world, history)


def _what_was_said(scenario: Scenario, world: World, logs: dict[str, HealthLog], began_s: float) -> str:
    """What those who have to say no have said, and that the others have not."""
    hit = {"": [], ONE: [world.victims[0].name], EVERYBODY: [*logs]}[scenario.unhealthy]
    for name in hit:
        left_s = began_s + scenario.within_s + _LATE_S - time.monotonic()
        wait_until(
            lambda name=name: logs[name].first_no(began_s, scenario.because),  # type: ignore[misc]
            timeout_s=max(left_s, _LATE_S),
            what=f"{name} to say that it is not healthy ({scenario.because})",
        )
    if not hit:
        return "yes"
    others = [name for name in logs if name not in hit]
    wait_until(
        lambda: not any(logs[name].says_no() for name in others),
        timeout_s=30,
        what=f"{others} to be healthy",
    )
    no = [found for name in hit if (found := logs[name].first_no(began_s, scenario.because)) is not None]
    latest_s, why = max(no)
    return f"no after {latest_s:.1f} s: {_short(why)}"


def _short(why: str) -> str:
    """Its beginning, without what is another in each run."""
    text = re.sub(r"/\S+/cache\.json:? ?|amqp://\S+|-[0-9a-f]{8}\b|'test\.\w+'", "", why)
    return f"{text[:70].rstrip()} ..." if len(text) > 70 else text


def agreed(world: World, history: History) -> float:
    """Seconds until all hosts hold the same document, which is one that can have come of all that was acknowledged."""
    began_s, found = time.monotonic(), ["nobody has looked"]

    def look() -> bool:
        try:
            held = [member.cache.read() for member in world.members]
        except CacheNetError as error:
            raise AssertionError(error) from None
        versions = {each.version for each in held}
        found[:] = history.faults_of(held[0].dict) if len(versions) == 1 else [f"{len(versions)} versions"]
        assert not found, found[:10]
        return True

    wait_until(look, timeout_s=90, what="agreement without a lost write")
    return time.monotonic() - began_s
