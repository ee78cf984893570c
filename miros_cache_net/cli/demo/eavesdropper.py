"""What somebody with access to the broker but without the key can see."""

from __future__ import annotations

import threading
from types import TracebackType

from miros_cache_net.amqp.link import Delivery, LinkUp
from miros_cache_net.errors import BrokerError
from miros_cache_net.fleet.links import rabbit_link
from miros_cache_net.fleet.place import Place
from miros_cache_net.settings import Settings


class Eavesdropper:
    """A queue bound to the exchange for the life of a ``with`` block; keeps every message that the broker carries."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self._link = rabbit_link(settings, place)
        self._up = threading.Event()
        self._error: BrokerError | None = None
        self.heard: list[Delivery] = []

    def __enter__(self) -> Eavesdropper:
        self._link.start(self)
        self._up.wait(10)
        if self._error is not None:
            self._link.stop()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._link.stop()

    def link_up(self, up: LinkUp) -> None:
        self._up.set()

    def link_down(self, error: BrokerError) -> None:
        if not self._up.is_set():
            self._error = error
            self._up.set()

    def delivered(self, delivery: Delivery) -> None:
        self.heard.append(delivery)
