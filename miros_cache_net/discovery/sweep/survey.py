"""A survey of this machine's networks: which addresses answer, and which accept connections on the brokers' ports."""

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

#: Called with the number of targets done, the number of all targets, and the number of open ones.
Progress = Callable[[int, int, int], object]


@dataclass(frozen=True)
class Plan:
    """The addresses to ask, likely ones first; `declined` has one line for each network that is too large."""

    addresses: tuple[str, ...]
    declined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surveyed:
    """A survey's result; `open` is sorted by address, `failed` says why there was nothing to look at, else ""."""

    open: tuple[SweepResult, ...] = ()
    refused: int = 0
    silent: int = 0
    declined: tuple[str, ...] = ()
    failed: str = ""

    @property
    def swept(self) -> int:
        """How many targets answered or stayed silent; a machine's second address is not counted again."""
        return len(self.open) + self.refused + self.silent


def plan_of(
    interfaces: Iterable[InterfaceAddress], table: Sequence[Neighbour], own: Iterable[str], largest_prefix: int
) -> Plan:
    """Neighbours first, then all addresses of the IPv4 networks with a prefix of at least `largest_prefix` bits.

    In larger networks only the neighbours are asked.  Own, network and broadcast addresses are left out.
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


@dataclass(frozen=True)
class Machine:
    """What a survey needs to know about the machine on which it runs."""

    interface_addresses: Callable[[], list[InterfaceAddress]] = interface_addresses
    own_addresses: Callable[[], Iterable[str]] = own_addresses
    neighbours: Callable[[], list[Neighbour]] = neighbours
    socket_budget: Callable[[], int] = socket_budget


@dataclass
class Survey:
    """A survey on a thread of its own, which ends with it.

    ports             tried at each address
    largest_prefix    as for `plan_of`
    progress          called on that thread, at most every `progress_every_s`; only `done` reports the end
    done              called once on that thread, as the last call; not called after `cancel`
    sweep             makes the sweep, as `Sweep` does
    """

    ports: Sequence[int]
    largest_prefix: int
    progress: Progress
    done: Callable[[Surveyed], object]
    machine: Machine = Machine()
    sweep: Callable[..., Sweep] = Sweep
    progress_every_s: float = limits.SWEEP_PROGRESS_S
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
        """Cancel the survey; returns when its thread has ended.  In a forked child it does nothing."""
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
        interfaces, table = self.machine.interface_addresses(), self.machine.neighbours()
        plan = plan_of(interfaces, table, self.machine.own_addresses(), self.largest_prefix)
        if not plan.addresses:
            why = "; ".join(plan.declined) or "this machine is in no network: no interface but loopback is up"
            return Surveyed(declined=plan.declined, failed=why)
        # Port by port, so that an address has its neighbour entry by the time it is asked for the second port.
        targets = [(address, port) for port in self.ports for address in plan.addresses]
        self._total = len(targets)
        sweep = self.sweep(
            targets, self._take, sockets=self.machine.socket_budget(), neighbours=neighbour_budget(table)
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
            open=tuple(without_second_names(found, self.machine.neighbours())),
            refused=counts[Answer.REFUSED],
            silent=counts[Answer.SILENT],
            declined=plan.declined,
        )

    def _take(self, result: SweepResult) -> None:
        self._results.append(result)
        now_s = time.monotonic()
        if now_s - self._told_at_s >= self.progress_every_s:
            self._told_at_s = now_s
            self.progress(len(self._results), self._total, sum(each.answer is Answer.OPEN for each in self._results))


def _in_order(result: SweepResult) -> tuple[int, int, int]:
    """Sort key by address, so that two sweeps with the same findings report them in the same order."""
    address = ipaddress.ip_address(result.address)
    return address.version, int(address), result.port


def without_second_names(found: Sequence[SweepResult], table: Iterable[Neighbour]) -> list[SweepResult]:
    """`found` without the IPv6 addresses of machines that were found under IPv4 too, judged by hardware address."""
    hardware = {each.address: each.hardware for each in table if each.hardware}
    by_v4 = {(hardware.get(each.address), each.port) for each in found if ":" not in each.address}
    return [
        each
        for each in found
        if ":" not in each.address or each.address not in hardware or (hardware[each.address], each.port) not in by_v4
    ]


def peer_text(address: str, port: int, usual_port: int) -> str:
    """The peer's name elsewhere: the address, with the port unless it is `usual_port`."""
    if port == usual_port:
        return address
    return f"[{ipaddress.ip_address(address)}]:{port}" if ":" in address else f"{address}:{port}"
