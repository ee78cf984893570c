"""Which tests run side by side: those of one file stay together, and so do all that need containers.

Two clusters of containers at once are too much for two cores: brokers then start later than anybody waits for them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[1]


@cache
def _scope(file: str) -> str:
    return "containers" if "pytest.mark.compose" in (_ROOT / file).read_text() else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(super()._split_scope(nodeid))

    return Scheduling(config, log)
