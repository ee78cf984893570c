"""Networked charts for tests: on a private RabbitMQ, in a directory and a mesh of their own, and what they heard."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from miros.event import Event, return_status, signals
from miros.hsm import spy_on

from miros_cache_net.mesh import NetworkedActiveObject, NetworkedFactory
from miros_cache_net.settings import Settings
from miros_cache_net.testing import wait_until
from miros_cache_net.wire.keyring import generate_key

Chart = NetworkedFactory


class Mesh:
    """Builds charts of one mesh: a key and a virtual host's exchange that no other test meets."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url, self.directory = url, directory
        self.key = generate_key()
        self.word = uuid.uuid4().hex[:8]
        self.charts: list[Chart] = []

    def settings(self, **more: Any) -> Settings:
        given = {"amqp_urls": self.url, "keys": self.key, "discover": "127.0.0.1", **more}
        return Settings(**given)

    def make(self, name: str = "", kind: type[Chart] = NetworkedFactory, **more: Any) -> Any:
        """A chart that is not started, listening to this mesh's own word."""
        settings = more.pop("settings", None) or self.settings()
        given = {"tx_routing_key": f"{self.word}.man", "rx_routing_key": f"{self.word}.*", **more}
        chart = kind(
            name or f"n{len(self.charts)}", "guest", "guest", given.pop("key", self.key), settings=settings, **given
        )
        self.charts.append(chart)
        return chart

    def up(self, name: str = "", kind: type[Chart] = NetworkedFactory, **more: Any) -> Any:
        """A chart that listens: it keeps what it handles in `heard`."""
        chart = self.make(name, kind, **more)
        start(chart)
        connected(chart)
        return chart

    def close(self) -> None:
        for chart in self.charts:
            chart.stop()


def connected(chart: Chart) -> None:
    """Wait until it hears what comes to its own broker."""
    wait_until(lambda: chart.nets.mesh.connected, 60, f"{chart.name} to be connected")


def start(chart: Any) -> None:
    """In one state, where it keeps every B and C."""
    chart.heard = []

    def keep(_chart: Any, e: Event) -> int:
        chart.heard.append((e.signal_name, e.payload))
        return int(return_status.HANDLED)

    listening = chart.create(state="listening").catch(signal=signals.B, handler=keep)
    listening.catch(signal=signals.C, handler=keep)
    chart.nest("listening", parent=None)
    chart.start_at("listening")


def hears(chart: Any, *expected: object, timeout_s: float = 30) -> None:
    """Wait until the payloads of all that `chart` has heard are these."""
    wait_until(lambda: [payload for _, payload in chart.heard] == list(expected), timeout_s, f"{expected} to be heard")


def says_until_heard(sender: Chart, receiver: Any, payload: object) -> None:
    """For links that have just come up: send until it gets through."""

    def heard() -> bool:
        sender.transmit(Event(signal=signals.B, payload=payload))
        wait_until(lambda: payload in [each for _, each in receiver.heard], 0.5)
        return True

    wait_until(heard, 60, f"{payload!r} to get through")


@spy_on
def flat(chart: Any, e: Event) -> int:
    """A state in the flat style: a B goes to `chart.heard`."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        status = return_status.HANDLED
    elif e.signal == signals.B:
        chart.heard.append((e.signal_name, e.payload))
        status = return_status.HANDLED
    else:
        chart.temp.fun = chart.top
        status = return_status.SUPER
    return int(status)


class Flat(NetworkedActiveObject):
    heard: list[tuple[str, Any]]
