"""Connects a fleet's document with the mesh of `miros-rabbitmq` programs; runs on every host, and one of them speaks.

In come an old program's ``CACHE_FILE_WRITE`` and ``CACHE_FILE_READ``; out goes ``CACHE``.  Who speaks: `election`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, LinkUp
from miros_cache_net.clock import Clock
from miros_cache_net.document.value import Document
from miros_cache_net.errors import (
    BrokerError,
    CacheNetError,
    DocumentError,
    EventNotSendable,
    PayloadError,
    Reason,
    SettingsError,
    WireError,
)
from miros_cache_net.events import CACHE_FILE_READ, CACHE_FILE_WRITE
from miros_cache_net.fleet.pace import Pace
from miros_cache_net.fleet.place import Place, mesh_queue_name
from miros_cache_net.fleet.publications import EVERYBODY
from miros_cache_net.mesh.cache_events import NAMES, cache_text, content_digest, content_of, heard_in
from miros_cache_net.mesh.discovery import MakeNode
from miros_cache_net.mesh.election import NUDGE_TIMER, Election, election_topology
from miros_cache_net.mesh.heard_writes import HeardWrite, HeardWrites, WritesPort
from miros_cache_net.mesh.news import News
from miros_cache_net.mesh.switchboard import MakeLink, mesh_link
from miros_cache_net.mesh.voice import Voice
from miros_cache_net.observe import families
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings import Settings
from miros_cache_net.wire import kinds
from miros_cache_net.wire.door import Door
from miros_cache_net.wire.keyring import KeyRing, RingProvider
from miros_cache_net.wire.mesh import MeshEvent, MeshEvents
from miros_cache_net.wire.token_window import Mark, TokenWindow, mark_of

_START_TIMER: Final = "start"
_START_AGAIN_S: Final = 5.0
_SAY_TIMER: Final = "say"
_NEWS_TIMER: Final = "news"
_SAID_TIMER: Final = "said"
#: How soon this host's own messages come back from the broker, unless the routing keys prevent that.
_COMES_BACK_S: Final = 1.0
#: Nudges closer together than this get one answer.
_NEWS_S: Final = 0.1


def _nothing() -> None:
    """Does nothing: the cancel function of a timer that is not set."""


class InterpreterPort(WritesPort, Protocol):
    """The node that owns an interpreter.  `mesh_event` and `report` may be called from any thread."""

    def mesh_event(self, name: str, payload: Any = None) -> None:
        """Call `Interpreter.handle` with these arguments on the owner's thread."""

    def mesh_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        """The same after `delay_s` seconds; returns a function that cancels it."""

    def report(self, reason: Reason, message: str) -> None:
        """Publish ``CACHE_ERROR``."""


class Fleet(Protocol):
    """This host's attachment to its fleet: `fleet.bridge.Bridge`."""

    on_mesh: Callable[[Any], None]

    @property
    def is_in_sync(self) -> bool:
        """Whether this host takes part in its fleet."""

    def has_spread(self, document: Document) -> bool:
        """Whether the fleet has all of `document`, or cannot get it over this link."""

    def send(self, kind: str, body: Any, to: str) -> str:
        """Send a message; `to`: `EVERYBODY`."""


class Interpreter:
    """Used on its owner's thread, except for the `LinkListener` methods.

    open_rings  opens the old mesh's keys; raises `SettingsError` while there is none
    is_main     whether events that name no document are for this one
    """

    def __init__(
        self,
        port: InterpreterPort,
        fleet: Fleet,
        settings: Settings,
        place: Place,
        *,
        open_rings: Callable[[], RingProvider],
        is_main: bool,
        clock: Clock,
        rng: random.Random,
        make_node: MakeNode,
        registry: Registry,
        make_link: MakeLink = mesh_link,
    ) -> None:
        self._port, self._fleet, self._place, self._clock = port, fleet, place, clock
        self._is_main = is_main
        self._open_rings = open_rings
        self._rings: RingProvider | None = None
        self._key_trouble = ""
        self._make_voice = partial(Voice, settings, self._ring, clock, make_link, make_node, registry)
        self._voice: Voice | None = None
        # An older token may have been accepted by an earlier run of this program, which this one cannot know.
        self._window = TokenWindow(
            clock, age_s=settings.mesh_token_age_s, not_before_s=math.floor(clock.wall_ms() / 1000)
        )
        form = MeshEvents(self._window, lambda _name: None)
        self._received, self._refused = map(registry.labelled, (families.MESH_RECEIVED, families.MESH_REFUSED))
        self._said = registry.counter(families.MESH_SAID)
        self._door = Door(
            self._ring,
            form,
            clock=clock,
            say=lambda error, line: port.report(error.reason, f"mesh: {line}"),
            counted=self._refused,
        )
        self._cancel: dict[str, Callable[[], None]] = {}
        self._link = make_link(settings, "", election_topology(place, settings.mesh_rx_routing_key))
        self._election = Election(
            self._link,
            mesh_queue_name(place),
            partial(self._after, NUDGE_TIMER),
            interval_s=settings.digest_interval_s,
            rng=rng,
        )
        registry.gauge(families.MESH_SPEAKS, lambda: int(self._election.speaks))
        fleet.on_mesh = self.heard_news
        self._writes = HeardWrites(
            port, fleet.has_spread, lambda write, error: port.mesh_event("stored", (write, error))
        )
        self._document: Document | None = None
        self._content = ""
        self._version_and_content = "", ""
        self._readers: list[Callable[[], None]] = []
        self._pace = Pace(limits.SPREAD_AT_ONCE, limits.SPREAD_LEAST_S, limits.SPREAD_MOST_S)
        self._paused = False
        self._trouble = ""
        self._wanted = ""
        self._news_due = False
        self._on: dict[str, Callable[[Any], None]] = {
            _START_TIMER: lambda _: self.start(),
            "link_up": lambda _: self._election.link_up(),
            "link_down": lambda _: self._link_lost(),
            "chosen": lambda _: None,
            "came_back": self._came_back,
            "nudged": lambda _: self._answer_nudge(),
            "heard": lambda heard: self._heard(*heard),
            "stored": lambda stored: self._stored(*stored),
            NUDGE_TIMER: lambda _: self._election.nudge(),
            _SAY_TIMER: lambda _: self._pause_over(),
            _SAID_TIMER: lambda _: self._tell(),
            _NEWS_TIMER: lambda _: self._tell_all(),
        }

    # --- for the owner -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; without a usable key, or if the system denies a thread or descriptors, report that and try
        again.
        """
        try:
            self._rings = self._rings or self._open_rings()
            self._key_trouble = ""
            self._link.start(self)
        except SettingsError as error:
            # the fleet does not need that key
            before, self._key_trouble = self._key_trouble, f"this host takes no part in the mesh: {error}"
            if self._key_trouble != before:
                self._port.report(error.reason, self._key_trouble)
            self._after(_START_TIMER, _START_AGAIN_S)
        except OSError as error:
            self._port.report(Reason.IO, f"the mesh has no link; retrying: {error.strerror or error}")
            self._after(_START_TIMER, _START_AGAIN_S)

    def stop(self) -> None:
        """End all links, threads and timers; what was not acknowledged goes to another host."""
        for cancel in self._cancel.values():
            cancel()
        voice, self._voice = self._voice, None
        if voice is not None:
            voice.stop()
        self._link.stop()

    def handle(self, name: str, payload: Any) -> None:
        """Process an event that was posted with `InterpreterPort.mesh_event`."""
        if name in ("chosen", "came_back", "nudged", "heard"):
            self._election.chosen()
        self._on[name](payload)
        self.look()

    def local_changed(self, document: Document) -> None:
        """The file holds `document` now, whoever wrote it."""
        self._document = document
        self.look()

    def heard_news(self, body: Any) -> None:
        """Another host speaks, or did, and reports what it has heard and said."""
        news = News.from_body(body)
        if news is None:
            return
        if self._election.heard_speaker(news.term):
            self._content = news.content or self._content
        for mark in news.marks:
            self._window.remember(mark)
        self._writes.know(news.marks)
        self.look()

    def look(self) -> None:
        """Do what has become possible: this host, its link or its fleet has changed."""
        self._election.serve(self._fleet.is_in_sync)
        done = self._writes.spread()
        if done:
            self._tell(tuple(write.mark for write in done))
            for write in done:
                write.taken()
        self._give_voice()
        self._say_what_is_due()
        self._report_trouble()

    @property
    def trouble(self) -> str:
        """What keeps the fleet out of the old mesh; "" if nothing does."""
        return self._key_trouble or self._trouble

    # --- LinkListener: on the link's thread -----------------------------------------------------------------

    def link_up(self, up: LinkUp) -> None:
        self._port.mesh_event("link_up")

    def link_down(self, error: BrokerError) -> None:
        self._port.mesh_event("link_down")

    def delivered(self, delivery: Delivery) -> None:
        if not delivery.exchange:
            # the contents do not matter: its arrival shows that this host is the active one
            delivery.taken()
            self._port.mesh_event("nudged")
            return
        event, voice = self._opened(delivery), self._voice
        # decrypt first: anybody can read a message id, and send a forged message with an id that begins like it
        if event is not None and voice is not None and voice.said(delivery.message_id):
            self._port.mesh_event("came_back", delivery.taken)
            return
        if event is not None and event.signal_name in NAMES:
            self._received.add(event.signal_name)
            self._port.mesh_event("heard", (event, mark_of(delivery.body), delivery.taken))
            return
        delivery.taken()
        if event is not None:
            self._received.add("other")
        if not self._election.speaks:
            self._port.mesh_event("chosen")

    def _opened(self, delivery: Delivery) -> MeshEvent | None:
        try:
            return self._door.open(delivery.body, routing_key=delivery.routing_key)
        except WireError:
            return None  # the door has counted and reported it

    # --- hearing --------------------------------------------------------------------------------------------

    def _link_lost(self) -> None:
        self._election.link_down()
        self._readers.clear()

    def _heard(self, event: MeshEvent, mark: Mark, taken: Callable[[], None]) -> None:
        if self._voice is not None:
            self._voice.heard_from(event.sender)
        try:
            heard = heard_in(event)
        except (PayloadError, DocumentError) as error:
            self._refused.add("payload")
            self._port.report(Reason.PAYLOAD, f"mesh: {event.signal_name} of a program at {event.sender}: {error}")
            taken()
            return
        if not self._is_meant(heard.file_name):
            taken()
        elif event.signal_name == CACHE_FILE_READ:
            self._readers.append(taken)
        elif heard.write is not None:
            self._content = content_digest(heard.write.text)
            if event.signal_name == CACHE_FILE_WRITE:
                self._writes.put(heard.write, mark, taken)
            else:
                taken()

    def _is_meant(self, file_name: str) -> bool:
        return file_name == self._place.document or (self._is_main and not file_name)

    def _stored(self, write: HeardWrite, error: Exception | None) -> None:
        self._writes.over(write, error)
        if error is not None:
            self._refused.add("store")
        elif write.stored is not None:
            self._document = write.stored

    # --- speaking -------------------------------------------------------------------------------------------

    def _give_voice(self) -> None:
        if self._election.speaks and self._voice is None:
            try:
                self._voice = self._make_voice()
            except (OSError, RuntimeError, CacheNetError) as error:
                self._port.report(Reason.IO, f"the mesh has no link to send over: {error}")
        elif not self._election.speaks and self._voice is not None:
            voice, self._voice = self._voice, None
            voice.stop_soon()

    def _say_what_is_due(self) -> None:
        document = self._document
        if document is None or self._writes.pending or self._paused:
            return
        is_news = self._is_main and document.is_written and self._content_of(document) != self._content
        if self._voice is None:
            # once per content: if it stays unsaid, for example beyond a cap, the regular nudges suffice
            if is_news and self._wanted != self._content_of(document):
                self._wanted = self._content_of(document)
                self._election.want_said()
        elif is_news or self._readers:
            wait_s = self._pace.take(self._clock.monotonic_s())
            if wait_s:
                self._paused = True
                self._after(_SAY_TIMER, wait_s)
            else:
                self._say(self._voice, document)

    def _came_back(self, taken: Callable[[], None]) -> None:
        self._cancel.pop(_SAID_TIMER, _nothing)()
        self._tell()
        taken()

    def _pause_over(self) -> None:
        self._paused = False

    def _say(self, voice: Voice, document: Document) -> None:
        try:
            voice.say(cache_text(document))
            self._said.add()
        except EventNotSendable as error:
            self._port.report(Reason.TOO_LARGE, f"the document is not sent to old programs: {error}")
        self._content = self._content_of(document)
        # Tell the others once the broker has it: a host that takes over before then says it again, or finds it there.
        self._after(_SAID_TIMER, _COMES_BACK_S)
        readers, self._readers = self._readers, []
        for taken in readers:
            taken()

    def _answer_nudge(self) -> None:
        if not self._news_due:
            self._news_due = True
            self._after(_NEWS_TIMER, _NEWS_S)

    def _tell_all(self) -> None:
        self._news_due = False
        self._tell(self._writes.marks)

    def _tell(self, marks: tuple[Mark, ...] = ()) -> None:
        self._fleet.send(kinds.MESH, News(self._election.term, self._content, marks).to_body(), EVERYBODY)

    # --- helpers --------------------------------------------------------------------------------------------

    def _ring(self) -> KeyRing:
        assert self._rings is not None  # nothing is heard or said before `start` has opened it
        return self._rings()

    def _content_of(self, document: Document) -> str:
        if self._version_and_content[0] != document.version:
            self._version_and_content = document.version, content_of(document)
        return self._version_and_content[1]

    def _report_trouble(self) -> None:
        before, self._trouble = self._trouble, self._election.trouble
        if self._trouble and not before:
            self._port.report(Reason.BROKER, self._trouble)

    def _after(self, name: str, delay_s: float) -> None:
        self._cancel.pop(name, _nothing)()
        self._cancel[name] = self._port.mesh_event_later(name, None, delay_s)
