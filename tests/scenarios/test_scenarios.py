"""Each scenario on each kind of host: agreement, nothing acknowledged lost, and a `health` that tells the truth."""

from __future__ import annotations

import faulthandler
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios import world as worlds
from tests.scenarios.containers import containers
from tests.scenarios.playing import play
from tests.scenarios.scenarios import CLUSTER, CONTAINERS, NAMESPACES, PROCESSES, SCENARIOS, Scenario
from tests.scenarios.table import PLAYED
from tests.scenarios.world import World

SEED = os.environ.get("MIROS_CACHE_SCENARIO_SEED", str(time.time_ns()))
MAKERS: dict[str, Callable[[Path], AbstractContextManager[World]]] = {
    PROCESSES: worlds.processes,
    NAMESPACES: worlds.namespaces,
    CONTAINERS: containers,
    CLUSTER: worlds.cluster,
}


class Worlds:
    """One world at a time: the one that was asked for last."""

    def __init__(self, directory: Callable[[str], Path]) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._world: World | None = None
        self._had_times = False

    def of(self, kind: str, scenario: Scenario) -> World:
        # once a clock was ahead, stamps tell nothing of the time: no whole writes any more
        if self._world is None or self._world.kind != kind or (self._had_times and not scenario.has_times):
            self.close()
            self._world = self._stack.enter_context(MAKERS[kind](self._directory(kind)))
        self._had_times = scenario.has_times
        return self._world

    def close(self) -> None:
        self._world = None
        self._stack.close()


@pytest.fixture(scope="module")
def of_kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    made = Worlds(tmp_path_factory.mktemp)
    yield made
    made.close()


def _cases() -> Iterator[Any]:
    """By kind, so that each world is made once."""
    for kind in MAKERS:
        for scenario in SCENARIOS:
            if kind in scenario.kinds:
                mark = pytest.mark.scenario(kind, in_ci=kind in scenario.in_ci)
                yield pytest.param(kind, scenario, id=f"{kind}-{scenario.label}", marks=[mark, pytest.mark.slow])


@pytest.mark.parametrize(("kind", "scenario"), list(_cases()))
def test_the_fleet_agrees_loses_nothing_and_tells_the_truth(
    kind: str, scenario: Scenario, of_kind: Worlds, record_property: Callable[[str, object], None]
) -> None:
    faulthandler.cancel_dump_traceback_later()  # each of its steps has a bound
    try:
        played = play(of_kind.of(kind, scenario), scenario, random.Random(SEED))
    except BaseException:
        of_kind.close()  # the next one begins with a world in order
        raise
    record_property(PLAYED, played._asdict())
