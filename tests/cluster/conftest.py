"""Which tests of this folder can run.

Those marked `stand_in` need the stand-ins of script/compose-standins (another RabbitMQ); those marked `compose` a
Docker Engine, and the stand-ins as base images, or PYTHON_IMAGE and RABBITMQ_IMAGE in their place.  They run where the
stand-ins are made already, or where STANDINS=true asks for them.  script/test makes them wherever it can.
"""

from __future__ import annotations

import os

import pytest

from tests.cluster.stand_ins import are_there, engine_answers


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compose: runs docker-compose.yml for real (minutes); see STANDINS=true")
    config.addinivalue_line("markers", "stand_in: runs on another RabbitMQ than this machine's; see STANDINS=true")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    can_run = {"compose": _images, "stand_in": are_there}
    for marker, possible in can_run.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not possible():
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in marked]


def _images() -> bool:
    named = bool(os.environ.get("PYTHON_IMAGE") and os.environ.get("RABBITMQ_IMAGE"))
    return engine_answers() and (named or are_there())
