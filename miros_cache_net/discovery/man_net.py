"""`ManNetChart`: the brokers of a hand-written hosts file.  It decides when; `ScoutParty` does the work."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.discovery.connections import Connections
from miros_cache_net.discovery.hosts_file import DEFAULT_FILE, HostsFile, read_hosts
from miros_cache_net.discovery.member import ROUTING_KEY, Member, settings_of
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, shared_prober
from miros_cache_net.discovery.retry import retry_after_s
from miros_cache_net.discovery.scout_party import ScoutParty
from miros_cache_net.errors import DocumentError, Reason
from miros_cache_net.events import AMQP_CONSUMER_CHECK, CONNECTION_READ, EVALUATE_HOSTS_FILE, event
from miros_cache_net.payloads import ConnectionDiscoveryPayload
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.store.watch import ChangeSource, ChangeSourceFactory, FileWatch


class ManNetChart(Chart):
    """Publishes which hosts of a hosts file have a usable broker; starts itself.

    `ManNetChart(node)` takes everything else from the `CacheNode` and its settings; without a node, pass `routing_key`
    in its place.

    The chart reads the file (``{"hosts": ["alpha.lab", "10.0.0.7:5673"]}``), scouts all its hosts at once and
    publishes ``AMQP_CONSUMER_CHECK`` for each.  It publishes ``CONNECTION_DISCOVERY`` with the good hosts, in file
    order: without waiting for slow hosts as soon as there are any, again as more answer, and when all are scouted.
    Late subscribers ask with ``CONNECTION_READ``; programs without a chart call `peers`.  The chart scouts again when
    the file changes and on ``EVALUATE_HOSTS_FILE``, to which it subscribes and which may also be posted to it
    directly.  It retries hosts that were not good with increasing back-off, and publishes them when they are.  It
    handles such events after a scouting round that is under way.

    A missing file has no hosts, until it appears.  A file that is not a hosts file, and invalid entries, are reported
    as ``CACHE_ERROR``; they do not affect the hosts known before and the other entries.

    exchange_name     "": from the settings
    hosts_file_path   None: from the settings, else ``.miros_rabbitmq_hosts.json`` in the working directory
    settings          None: the node's, or without a node `Settings()` from the environment
    prober            None: the one that the process shares
    watch             makes the watch that reports changes to the file

    Raises `SettingsError` if a setting is malformed.
    """

    STATES = (
        State(
            "manual_network",
            ENTRY=STAYS,
            CONNECTION_READ=STAYS,
            watch_due=STAYS,
            EVALUATE_HOSTS_FILE="evaluate_hosts",
            hosts_file_changed="evaluate_hosts",
            retry_due="evaluate_hosts",
        ),
        State(
            "evaluate_hosts",
            "manual_network",
            ENTRY=STAYS,
            EXIT=STAYS,
            EVALUATE_HOSTS_FILE=STAYS,
            hosts_file_changed=STAYS,
            retry_due=STAYS,
            host_scouted=STAYS,
            good_hosts_due=STAYS,
            all_hosts_scouted="manual_network",
        ),
    )

    def __init__(
        self,
        routing_key: str | Member = ROUTING_KEY,
        exchange_name: str = "",
        hosts_file_path: str | os.PathLike[str] | None = None,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        *,
        settings: Settings | None = None,
        prober: Prober | None = None,
        watch: ChangeSourceFactory = FileWatch,
        rng: random.Random | None = None,
    ) -> None:
        if not isinstance(routing_key, str):
            settings, routing_key = settings or settings_of(routing_key), ROUTING_KEY
        self.settings = settings or Settings()
        super().__init__("man_net_chart", live_trace=live_trace, live_spy=live_spy)
        self.routing_key, self.exchange_name = routing_key, exchange_name or self.settings.exchange
        file_path = hosts_file_path or self.settings.hosts_file or DEFAULT_FILE
        self.hosts_file_path = Path(file_path).expanduser().absolute()
        self._connections = Connections(self.settings, str(self.name))
        self._prober = prober or shared_prober()
        self._rng = rng or random.Random()
        self._watch_factory = watch
        self._watch: ChangeSource | None = None
        self._file = HostsFile()
        self._good: set[str] = set()
        self._told: list[str] | None = None
        self._tell_is_due = False
        self._party: ScoutParty | None = None
        self._next: Sequence[str] = ()
        self._asked = False
        self._rounds = self._failures = self._watch_failures = 0
        self.subscribe(EVALUATE_HOSTS_FILE)
        self.subscribe(CONNECTION_READ)
        self.start_at()

    def peers(self, timeout_s: float | None = None) -> ConnectionDiscoveryPayload | None:
        """The last ``CONNECTION_DISCOVERY`` payload; waits for the first one, and returns None after `timeout_s`.

        Callable from any thread except a chart's own.
        """
        return self._connections.wait(timeout_s)

    def stop(self) -> None:
        """Stop the thread and the watch, and cancel the scouts."""
        super().stop()
        watch, self._watch = self._watch, None
        if watch is not None and not self._forked:
            watch.close()
        self._cancel_party()

    # --- states ---------------------------------------------------------------------------------------

    def _manual_network_ENTRY(self, e: Event) -> int:
        # Before the first read, so that no change falls between the two.
        self._begin_watch()
        self.post_fifo(event(EVALUATE_HOSTS_FILE))
        return HANDLED

    def _manual_network_watch_due(self, e: Event) -> int:
        self._begin_watch()
        self._file_changed()
        return HANDLED

    def _manual_network_EVALUATE_HOSTS_FILE(self, e: Event) -> int:
        self._read_file()
        return self._evaluate(self._file.hosts, asked=True)

    def _manual_network_CONNECTION_READ(self, e: Event) -> int:
        self._connections.tell_again(self.publish)
        return HANDLED

    def _manual_network_hosts_file_changed(self, e: Event) -> int:
        return self._evaluate(self._file.hosts, asked=True) if self._read_file() else HANDLED

    def _manual_network_retry_due(self, e: Event) -> int:
        return self._evaluate([host for host in self._file.hosts if host not in self._good], asked=False)

    def _evaluate_hosts_ENTRY(self, e: Event) -> int:
        self._rounds += 1
        self.cancel_events("retry_due")
        self._party = ScoutParty(
            self._next,
            self.routing_key,
            self.exchange_name,
            self.settings,
            self._prober,
            partial(self._answer, self._rounds),
        )
        self._go_on()
        return HANDLED

    def _evaluate_hosts_EXIT(self, e: Event) -> int:
        self.cancel_events("good_hosts_due")
        self._tell_is_due = False
        self._cancel_party()
        self.recall()
        return HANDLED

    def _evaluate_hosts_EVALUATE_HOSTS_FILE(self, e: Event) -> int:
        self.defer(e)
        return HANDLED

    def _evaluate_hosts_hosts_file_changed(self, e: Event) -> int:
        if not any(waiting.signal_name == e.signal_name for waiting in self.defer_queue):
            self.defer(e)
        return HANDLED

    def _evaluate_hosts_retry_due(self, e: Event) -> int:
        return HANDLED  # They are already being scouted.

    def _evaluate_hosts_host_scouted(self, e: Event) -> int:
        scouted_round, host, result = e.payload
        if scouted_round != self._rounds or self._party is None:
            return HANDLED  # From an earlier round.
        check = self._party.answered(host, result)
        self.publish(event(AMQP_CONSUMER_CHECK, check))
        if check.result:
            self._note_good(host)
        else:
            self._good.discard(host)
        self._go_on()
        return HANDLED

    def _evaluate_hosts_good_hosts_due(self, e: Event) -> int:
        self._tell_is_due = False
        self._tell()
        return HANDLED

    def _evaluate_hosts_all_hosts_scouted(self, e: Event) -> int:
        self._tell(always=self._asked)
        if len(self._good) < len(self._file.hosts):
            self.post_later(event("retry_due"), retry_after_s(self._failures, self._rng))
            self._failures += 1
        return self.trans("manual_network")

    # --- what the handlers share ------------------------------------------------------------------------

    def _begin_watch(self) -> None:
        """If the system is short of resources, report it once and retry later."""
        if self._watch is not None:
            return
        try:
            self._watch = self._watch_factory(self.hosts_file_path, self._file_changed)
        except (OSError, RuntimeError) as error:
            if not self._watch_failures:
                words = f"{self.hosts_file_path} is not watched for now, only read: {error}; close files or end threads"
                self.report(Reason.IO, words, self.hosts_file_path.name)
            self.post_later(event("watch_due"), retry_after_s(self._watch_failures, self._rng), always=True)
            self._watch_failures += 1

    def _file_changed(self) -> None:
        self.post_fifo(event("hosts_file_changed"))

    def _read_file(self) -> bool:
        """Read the file and report its errors; True if its contents are new."""
        try:
            file = read_hosts(self.hosts_file_path)
        except DocumentError as error:
            self.report(Reason.MALFORMED, str(error), self.hosts_file_path.name)
            return False
        except OSError as error:
            words = f"{self.hosts_file_path} cannot be read: {error.strerror or error}"
            self.report(Reason.IO, words, self.hosts_file_path.name)
            return False
        if file == self._file:
            return False
        for complaint in file.complaints:
            self.report(Reason.PAYLOAD, complaint, self.hosts_file_path.name)
        self._file = file
        self._good.intersection_update(file.hosts)
        self._failures = 0
        return True

    def _evaluate(self, hosts: Sequence[str], *, asked: bool) -> int:
        self._next, self._asked = hosts, asked
        return self.trans("evaluate_hosts")

    def _go_on(self) -> None:
        if self._party is not None:
            self._party.go_on()
            if self._party.complete:
                self.post_lifo(event("all_hosts_scouted"))

    def _answer(self, scouted_round: int, host: str, result: ProbeResult) -> None:
        # LIFO, because a LIFO post is never refused.
        self.post_lifo(event("host_scouted", (scouted_round, host, result)))

    def _note_good(self, host: str) -> None:
        if host not in self._good:
            self._good.add(host)
            self._failures = 0
            if not self._tell_is_due:
                self._tell_is_due = True
                self.post_later(event("good_hosts_due"), limits.HOSTS_TOLD_AFTER_S)

    def _tell(self, *, always: bool = False) -> None:
        """Publish the good hosts if they changed, or `always`."""
        hosts = [host for host in self._file.hosts if host in self._good]
        if hosts == self._told and not always:
            return
        self._told = hosts
        self._connections.tell(hosts, self.publish)

    def _cancel_party(self) -> None:
        party, self._party = self._party, None
        if party is not None:
            party.cancel()
