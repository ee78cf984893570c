"""`ManNetChart`: the brokers that somebody wrote down by hand.  It decides when; `ScoutParty` does what."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.discovery.hosts_file import DEFAULT_FILE, HostsFile, read_hosts
from miros_cache_net.discovery.peers import connection_url
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, shared_prober
from miros_cache_net.discovery.scout_party import ScoutParty
from miros_cache_net.errors import DocumentError, Reason
from miros_cache_net.events import AMQP_CONSUMER_CHECK, CONNECTION_DISCOVERY, EVALUATE_HOSTS_FILE, event
from miros_cache_net.payloads import ConnectionDiscoveryPayload
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.store.watch import ChangeSource, ChangeSourceFactory, FileWatch


class ManNetChart(Chart):
    """Tells which of the hosts in a hosts file have a usable broker; starts itself.

    Reads the file (``{"hosts": ["alpha.lab", "10.0.0.7:5673"]}``), scouts all its hosts at once and publishes
    ``AMQP_CONSUMER_CHECK`` for each, and ``CONNECTION_DISCOVERY`` with the good ones, in the order of the file: as
    soon as there are any, whatever the others do, again when more have come, and when all are through.  It does so
    again when the file has changed and when it gets ``EVALUATE_HOSTS_FILE`` (it subscribes to it; posted to it
    directly it works the same).  Hosts that were not good are tried again by themselves, ever more rarely, and
    told when they are.  An event that comes while hosts are scouted is served afterwards.

    A file that is not there has no hosts, until it comes.  One that is no hosts file, and single entries that are no
    hosts, are reported as ``CACHE_ERROR``; the hosts known before, and the other entries, are not affected.

    hosts_file_path   None: ``.miros_rabbitmq_hosts.json`` here
    settings          None: `Settings()` from the environment
    prober            None: the process's own
    watch             what tells of changes of the file

    Raises `SettingsError` where a setting is malformed.
    """

    STATES = (
        State(
            "manual_network",
            ENTRY=STAYS,
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
        routing_key: str,
        exchange_name: str,
        hosts_file_path: str | os.PathLike[str] | None = None,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        *,
        settings: Settings | None = None,
        prober: Prober | None = None,
        watch: ChangeSourceFactory = FileWatch,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings or Settings()
        super().__init__("man_net_chart", live_trace=live_trace, live_spy=live_spy)
        self.routing_key, self.exchange_name = routing_key, exchange_name
        self.hosts_file_path = Path(hosts_file_path or DEFAULT_FILE).expanduser().absolute()
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
        self._rounds = self._failures = 0
        self.subscribe(EVALUATE_HOSTS_FILE)
        self.start_at()

    def stop(self) -> None:
        """End the thread and the watch, and call back the scouts."""
        super().stop()
        watch, self._watch = self._watch, None
        if watch is not None and not self._forked:
            watch.close()
        self._cancel_party()

    # --- states ---------------------------------------------------------------------------------------

    def manual_network_ENTRY(self, e: Event) -> int:
        # before the first look, so that no change falls between the two
        if self._watch is None:
            self._watch = self._watch_factory(self.hosts_file_path, self._file_changed)
        self.post_fifo(event(EVALUATE_HOSTS_FILE))
        return HANDLED

    def manual_network_EVALUATE_HOSTS_FILE(self, e: Event) -> int:
        self._read_file()
        return self._evaluate(self._file.hosts, asked=True)

    def manual_network_hosts_file_changed(self, e: Event) -> int:
        return self._evaluate(self._file.hosts, asked=True) if self._read_file() else HANDLED

    def manual_network_retry_due(self, e: Event) -> int:
        return self._evaluate([host for host in self._file.hosts if host not in self._good], asked=False)

    def evaluate_hosts_ENTRY(self, e: Event) -> int:
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

    def evaluate_hosts_EXIT(self, e: Event) -> int:
        self.cancel_events("good_hosts_due")
        self._tell_is_due = False
        self._cancel_party()
        self.recall()
        return HANDLED

    def evaluate_hosts_EVALUATE_HOSTS_FILE(self, e: Event) -> int:
        self.defer(e)
        return HANDLED

    def evaluate_hosts_hosts_file_changed(self, e: Event) -> int:
        if not any(waiting.signal_name == e.signal_name for waiting in self.defer_queue):
            self.defer(e)
        return HANDLED

    def evaluate_hosts_retry_due(self, e: Event) -> int:
        return HANDLED  # they are being tried

    def evaluate_hosts_host_scouted(self, e: Event) -> int:
        scouted_round, host, result = e.payload
        if scouted_round != self._rounds or self._party is None:
            return HANDLED  # of an earlier round
        check = self._party.answered(host, result)
        self.publish(event(AMQP_CONSUMER_CHECK, check))
        if check.result:
            self._note_good(host)
        else:
            self._good.discard(host)
        self._go_on()
        return HANDLED

    def evaluate_hosts_good_hosts_due(self, e: Event) -> int:
        self._tell_is_due = False
        self._tell()
        return HANDLED

    def evaluate_hosts_all_hosts_scouted(self, e: Event) -> int:
        self._tell(always=self._asked)
        if len(self._good) < len(self._file.hosts):
            self.post_later(event("retry_due"), retry_after_s(self._failures, self._rng))
            self._failures += 1
        return self.trans("manual_network")

    # --- what the handlers share ------------------------------------------------------------------------

    def _file_changed(self) -> None:
        self.post_fifo(event("hosts_file_changed"))

    def _read_file(self) -> bool:
        """Whether it says something new.  What is wrong with it is reported."""
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
        # in front, since what is posted so is never refused
        self.post_lifo(event("host_scouted", (scouted_round, host, result)))

    def _note_good(self, host: str) -> None:
        if host not in self._good:
            self._good.add(host)
            self._failures = 0
            if not self._tell_is_due:
                self._tell_is_due = True
                self.post_later(event("good_hosts_due"), limits.HOSTS_TOLD_AFTER_S)

    def _tell(self, *, always: bool = False) -> None:
        """Publish the good hosts, where that is news or somebody asked."""
        hosts = [host for host in self._file.hosts if host in self._good]
        if hosts == self._told and not always:
            return
        self._told = hosts
        urls = [connection_url(self.settings, host) for host in hosts]
        self.publish(event(CONNECTION_DISCOVERY, ConnectionDiscoveryPayload(hosts, urls, str(self.name))))

    def _cancel_party(self) -> None:
        party, self._party = self._party, None
        if party is not None:
            party.cancel()


def retry_after_s(failures: int, rng: random.Random) -> float:
    """How long to wait for the next try after so many in which no dead host came back."""
    return rng.uniform(0.5, 1.0) * min(limits.HOSTS_RETRY_TOP_S, limits.HOSTS_RETRY_BASE_S * 2.0 ** min(failures, 20))
