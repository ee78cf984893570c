"""One look at the networks of this machine: which addresses are there, which of them take AMQP connections."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from miros_cache_net import limits
from miros_cache_net.discovery.sweep.capacity import neighbour_budget, socket_budget
from miros_cache_net.discovery.sweep.neighbours import Neighbour, likely, neighbours
from miros_cache_net.discovery.sweep.sweep import Answer, Sweep, SweepResult
from miros_cache_net.settings.networks import InterfaceAddress, Network, interface_addresses, own_addresses

#: Called with how many targets are done, how many there are, how many of them are open.
Progress = Callable[[int, int, int], object]


@dataclass(frozen=True)
class Plan:
    """Which addresses to ask, the likely ones first; `declined` says, a line each, which networks are too large."""

    addresses: tuple[str, ...]
    declined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surveyed:
    """What a survey found, by address; `failed` says why nothing could be looked at, "" if something was."""

    open: tuple[SweepResult, ...] = ()
    refused: int = 0
    silent: int = 0
    declined: tuple[str, ...] = ()
    failed: str = ""

    @property
    def swept(self) -> int:
        """How many answered or were waited for in vain; a machine under its second name is not counted again."""
        return len(self.open) + self.refused + self.silent


def plan_of(
    interfaces: Iterable[InterfaceAddress], table: Sequence[Neighbour], own: Iterable[str], largest_prefix: int
) -> Plan:
    """Neighbours first, then every address of the IPv4 networks down to a prefix of `largest_prefix`.

    Of larger ones only the neighbours are asked.  Own, network and broadcast addresses are left out.
    """
    addresses = dict.fromkeys(likely(list(table)))
    declined = {}
    for network, interface in {each.network: each.interface for each in interfaces if each.swept}.items():
        if network.prefixlen >= largest_prefix:
            addresses.update(dict.fromkeys(map(str, network.hosts())))
        elif not network.is_link_local:
            declined[network] = _declined_line(network, interface, largest_prefix)
    for address in own:
        addresses.pop(address, None)
    return Plan(tuple(addresses), tuple(declined.values()))


def _declined_line(network: Network, interface: str, largest_prefix: int) -> str:
    prefix = network.prefixlen
    whole = f"set MIROS_CACHE_SWEEP_PREFIX={prefix} to sweep it whole, or " if prefix >= limits.SWEEP_PREFIX else ""
    return (
        f"{network} ({interface}) is larger than a /{largest_prefix}, so only its known neighbours were asked: "
        f"{whole}list its hosts by hand"
    )


@dataclass
class Survey:
    """A survey on a thread of its own, which ends with it.

    ports           asked at each address
    largest_prefix  as for `plan_of`
    progress        called on that thread, at most every `limits.SWEEP_PROGRESS_S`; the end is `done`'s to tell
    done            called on that thread, once, last; not after `cancel`
    """

    ports: Sequence[int]
    largest_prefix: int
    progress: Progress
    done: Callable[[Surveyed], object]
    _results: list[SweepResult] = field(default_factory=list)
    _told_at_s: float = float("-inf")
    _total: int = 0

    def start(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._sweep: Sweep | None = None
        self._thread = threading.Thread(target=self._run, name="miros-cache-sweep", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """End it; returns when its thread has ended.  In a forked child it does nothing."""
        with self._lock:
            self._cancelled = True
            sweep = self._sweep
        if sweep is not None:
            sweep.cancel()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            surveyed = self._survey()
        except Exception as error:
            surveyed = Surveyed(failed=f"the networks here could not be looked at: {error}")
        if surveyed is not None and not self._cancelled:
            self.done(surveyed)

    def _survey(self) -> Surveyed | None:
        interfaces, table = interface_addresses(), neighbours()
        plan = plan_of(interfaces, table, own_addresses(), self.largest_prefix)
        if not plan.addresses:
            why = "; ".join(plan.declined) or "this machine is in no network: no interface but loopback is up"
            return Surveyed(declined=plan.declined, failed=why)
        # port by port, so that an address that is asked twice has its neighbour entry the second time
        targets = [(address, port) for port in self.ports for address in plan.addresses]
        self._total = len(targets)
        sweep = Sweep(
            targets,
            self._take,
            sockets=socket_budget(),
            neighbours=neighbour_budget(table),
            attempt_s=limits.SWEEP_ATTEMPT_S,
        )
        with self._lock:
            self._sweep = sweep
            if self._cancelled:
                sweep.cancel()
        if not sweep.run():
            return None
        return self._surveyed(plan)

    def _surveyed(self, plan: Plan) -> Surveyed:
        counts = Counter(each.answer for each in self._results)
        found = sorted((each for each in self._results if each.answer is Answer.OPEN), key=_in_order)
        return Surveyed(
            open=tuple(without_second_names(found, neighbours())),
            refused=counts[Answer.REFUSED],
            silent=counts[Answer.SILENT],
            declined=plan.declined,
        )

    def _take(self, result: SweepResult) -> None:
        self._results.append(result)
        now_s = time.monotonic()
        if now_s - self._told_at_s >= limits.SWEEP_PROGRESS_S:
            self._told_at_s = now_s
            self.progress(len(self._results), self._total, sum(each.answer is Answer.OPEN for each in self._results))


def _in_order(result: SweepResult) -> tuple[int, int, int]:
    """By address, so that two sweeps that find the same say the same."""
    address = ipaddress.ip_address(result.address)
    return address.version, int(address), result.port


def without_second_names(found: Sequence[SweepResult], table: Iterable[Neighbour]) -> list[SweepResult]:
    """`found` without the IPv6 addresses of machines (by hardware address) that were found under IPv4 too."""
    hardware = {each.address: each.hardware for each in table if each.hardware}
    by_v4 = {(hardware.get(each.address), each.port) for each in found if ":" not in each.address}
    return [
        each
        for each in found
        if ":" not in each.address or each.address not in hardware or (hardware[each.address], each.port) not in by_v4
    ]


def peer_text(address: str, port: int, usual_port: int) -> str:
    """The peer as it is named elsewhere: the address, with its port where that is not `usual_port`."""
    if port == usual_port:
        return address
    return f"[{ipaddress.ip_address(address)}]:{port}" if ":" in address else f"{address}:{port}"
