"""The sweep against real sockets on loopback, and the plan and the bounds that it works with."""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import resource
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.discovery.sweep import capacity, neighbours, survey
from miros_cache_net.discovery.sweep.neighbours import Neighbour
from miros_cache_net.discovery.sweep.survey import Machine, peer_text, plan_of, without_second_names
from miros_cache_net.discovery.sweep.sweep import Answer, Sweep, SweepResult
from miros_cache_net.settings import networks
from miros_cache_net.settings.networks import InterfaceAddress
from miros_cache_net.testing import ManualClock, free_port, wait_until
from tests.fake_servers import full_backlog

AMPLE_S = 30.0


def swept(*targets: tuple[str, int], **options: Any) -> dict[tuple[str, int], SweepResult]:
    results: list[SweepResult] = []
    assert Sweep(targets, results.append, **options).run()
    assert len({each[:2] for each in results}) == len(results), "a target has two results"
    return {each[:2]: each for each in results}


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that is open at 127.0.0.1 to 127.0.0.255."""
    with socket.create_server(("0.0.0.0", 0), backlog=2048) as listener:
        yield listener.getsockname()[1]


# --- the sweep --------------------------------------------------------------------------------------


def test_open_refusing_and_silent_targets_are_told_apart(listening: int) -> None:
    closed = free_port()
    with full_backlog("127.0.0.1") as silent:
        results = swept(("127.0.0.2", listening), ("127.0.0.1", closed), ("127.0.0.1", silent), attempt_s=0.05)
    assert {target: each.answer for target, each in results.items()} == {
        ("127.0.0.2", listening): Answer.OPEN,
        ("127.0.0.1", closed): Answer.REFUSED,
        ("127.0.0.1", silent): Answer.SILENT,
    }
    round_trip_s = results["127.0.0.2", listening].round_trip_s
    assert round_trip_s is not None and 0 < round_trip_s < AMPLE_S
    assert results["127.0.0.1", silent].round_trip_s is None


def test_ipv6_addresses_are_swept_too() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        assert swept(("::1", port))["::1", port].answer is Answer.OPEN


def test_silent_target_is_tried_just_twice() -> None:
    sockets = CountedSockets()
    with full_backlog("127.0.0.1") as silent:
        swept(("127.0.0.1", silent), attempt_s=0.02, make_socket=sockets)
        assert sockets.connects == [("127.0.0.1", silent)] * 2


def test_unreachable_address_gets_a_second_attempt(listening: int) -> None:
    sockets = CountedSockets(answers=[errno.EHOSTUNREACH])
    results = swept(("127.0.0.1", listening), attempt_s=0.02, make_socket=sockets)
    assert (results["127.0.0.1", listening].answer, len(sockets.connects)) == (Answer.OPEN, 2)


def test_a_thousand_targets_are_answered_with_few_sockets(listening: int) -> None:
    targets = [(f"127.0.{n >> 8}.{n & 255}", listening) for n in range(1, 1000)]
    sockets = CountedSockets()
    results = swept(*targets, sockets=7, make_socket=sockets)
    assert {each.answer for each in results.values()} == {Answer.OPEN}
    assert len(results) == 999
    assert sockets.most <= 7


def test_neighbour_budget_waits_for_the_kernel(listening: int, manual_clock: ManualClock) -> None:
    sockets, closed = CountedSockets(), free_port()
    targets = [("127.0.0.1", closed)] + [(f"127.0.0.{n}", listening) for n in range(2, 13)]
    sweep = Sweep(targets, [].append, neighbours=4, clock=manual_clock, make_socket=sockets)
    sweep._start_some()
    wait_until(lambda: sweep._take_answers(0.0) or not sockets.open)
    sweep._start_some()
    assert len(sockets.connects) == 4, "answered addresses stay in the table"
    manual_clock.advance(limits.NEIGHBOUR_KEPT_S)
    sweep._start_some()
    assert len(sockets.connects) == 8
    sweep._close()


def test_lack_of_descriptors_slows_sweep_without_errors(listening: int) -> None:
    sockets = CountedSockets(bound=5)
    results = swept(*((f"127.0.0.{n}", listening) for n in range(1, 100)), make_socket=sockets)
    assert {each.answer for each in results.values()} == {Answer.OPEN}
    assert len(results) == 99


def test_without_a_single_descriptor_it_says_so(listening: int) -> None:
    sweep = Sweep([("127.0.0.1", listening)], lambda result: None, make_socket=CountedSockets(bound=0))
    with pytest.raises(OSError, match="planted"):
        sweep.run()


def test_cancelled_sweep_closes_every_socket_at_once() -> None:
    with full_backlog("127.0.0.1") as silent:
        sockets = CountedSockets()
        sweep = Sweep([("127.0.0.1", silent)], lambda result: None, attempt_s=AMPLE_S, make_socket=sockets)
        ended: list[bool] = []
        thread = threading.Thread(target=lambda: ended.append(sweep.run()))
        thread.start()
        wait_until(lambda: sockets.connects)
        assert sockets.open == 1
        sweep.cancel()
        thread.join(AMPLE_S)
        assert ended == [False]
        assert sockets.open == 0


def test_open_port_sees_its_connection_end_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        swept(("127.0.0.1", listener.getsockname()[1]))
        listener.settimeout(AMPLE_S)
        with contextlib.suppress(ConnectionError):
            connection, _ = listener.accept()
            connection.settimeout(AMPLE_S)
            with connection, contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""


# --- helpers ----------------------------------------------------------------------------------------


class CountedSockets:
    """Makes sockets as `socket.socket` does, at most `bound` at once, and keeps what becomes of them.

    answers   what the first attempts to connect come to instead
    """

    def __init__(self, *, bound: int = 1 << 30, answers: Sequence[int] = ()) -> None:
        self.bound = bound
        self.answers = deque(answers)
        self.connects: list[Any] = []
        self.open = self.most = 0

    def __call__(self, family: int, kind: int) -> socket.socket:
        if self.open >= self.bound:
            raise OSError(errno.EMFILE, "planted")
        return _Counted(self, family, kind)


class _Counted(socket.socket):
    def __init__(self, counts: CountedSockets, family: int, kind: int) -> None:
        super().__init__(family, kind)
        self.counts = counts
        counts.open += 1
        counts.most = max(counts.most, counts.open)

    def close(self) -> None:
        if self.fileno() != -1:
            self.counts.open -= 1
        super().close()

    def connect_ex(self, address: Any) -> int:
        self.counts.connects.append(address)
        return self.counts.answers.popleft() if self.counts.answers else super().connect_ex(address)


# --- the plan ---------------------------------------------------------------------------------------


def inside(interface: str, address: str) -> InterfaceAddress:
    parsed = ipaddress.ip_interface(address)
    return InterfaceAddress(interface, parsed.ip, parsed.network)


def test_the_plan_has_neighbours_first_and_nobody_twice() -> None:
    plan = plan_of(
        [inside("eth0", "10.0.0.1/29"), inside("eth1", "10.0.0.2/29")],
        [Neighbour("10.0.0.6", "aa"), Neighbour("10.0.0.3", "", failed=True)],
        ["10.0.0.1", "10.0.0.2", "127.0.0.1"],
        22,
    )
    assert plan.addresses == ("10.0.0.6", "10.0.0.3", "10.0.0.4", "10.0.0.5")
    assert plan.declined == ()


@pytest.mark.parametrize(("prefix", "declined"), [(23, False), (24, False), (25, True)])
def test_a_network_larger_than_the_bound_is_declined(prefix: int, declined: bool) -> None:
    plan = plan_of([inside("eth0", "10.0.0.1/24")], [Neighbour("10.0.0.9", "aa")], [], prefix)
    assert (len(plan.addresses) == 1) is declined
    assert bool(plan.declined) is declined
    if declined:
        assert "10.0.0.0/24 (eth0) is larger than a /25" in plan.declined[0]
        assert "MIROS_CACHE_SWEEP_PREFIX=24" in plan.declined[0]


def test_network_too_large_for_any_setting_is_declined() -> None:
    (line,) = plan_of([inside("eth0", "10.0.0.1/8")], [], [], 22).declined
    assert "list its hosts by hand" in line
    assert "MIROS_CACHE_SWEEP_PREFIX" not in line


def test_ipv6_networks_and_lonely_addresses_are_not_enumerated() -> None:
    plan = plan_of([inside("eth0", "fd00::1/64"), inside("tun0", "10.8.0.1/32")], [], [], 8)
    assert plan == survey.Plan(())


def test_only_neighbours_that_others_reach_are_likely() -> None:
    table = [
        Neighbour("10.0.0.9", "aa"),
        Neighbour("fd00::9", "ab"),
        Neighbour("fe80::9", "ac"),
        Neighbour("10.0.0.8", ""),
        Neighbour("10.0.0.7", "ad", failed=True),
        Neighbour("224.0.0.1", "ae"),
        Neighbour("ff02::1", "af"),
        Neighbour("0.0.0.0", "b0"),
        Neighbour("127.0.0.1", "b1"),
    ]
    assert neighbours.likely(table) == ["10.0.0.9", "fd00::9"]


def test_a_machine_found_twice_keeps_its_ipv4_address() -> None:
    found = [
        SweepResult(*each, Answer.OPEN) for each in (("fd00::9", 1), ("10.0.0.9", 1), ("fd00::9", 2), ("fd00::8", 1))
    ]
    table = [Neighbour("10.0.0.9", "aa"), Neighbour("fd00::9", "aa"), Neighbour("fd00::8", "bb")]
    assert [each[:2] for each in without_second_names(found, table)] == [
        ("10.0.0.9", 1),
        ("fd00::9", 2),
        ("fd00::8", 1),
    ]
    assert without_second_names(found, []) == found


@pytest.mark.parametrize(
    ("address", "port", "text"),
    [
        ("10.0.0.9", 5672, "10.0.0.9"),
        ("10.0.0.9", 1, "10.0.0.9:1"),
        ("fd00::9", 5672, "fd00::9"),
        ("fd00::9", 1, "[fd00::9]:1"),
    ],
)
def test_a_peer_is_named_with_an_unusual_port(address: str, port: int, text: str) -> None:
    assert peer_text(address, port, 5672) == text


# --- this machine -----------------------------------------------------------------------------------


def test_interfaces_are_as_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class Entry:
        def __init__(self, address: str, netmask: str | None) -> None:
            self.address, self.netmask = address, netmask

    addresses = {
        "lo": [Entry("127.0.0.1", "255.0.0.0")],
        "eth0": [
            Entry("10.1.2.3", "255.255.252.0"),
            Entry("fe80::1%eth0", "ffff:ffff:ffff:ffff::"),
            Entry("02:fc:00:00:00:05", None),
        ],
        "docker0": [Entry("172.17.0.1", "255.255.0.0")],
        "tun0": [Entry("10.8.0.1", None), Entry("10.66.0.1", "0.0.0.0")],
    }
    up = {name: type("Status", (), {"isup": name != "docker0"})() for name in addresses}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: up)
    found = networks.interface_addresses()
    assert [(each.interface, str(each.address), str(each.network)) for each in found] == [
        ("eth0", "10.1.2.3", "10.1.0.0/22"),
        ("eth0", "fe80::1%eth0", "fe80::/64"),
        ("tun0", "10.8.0.1", "10.8.0.1/32"),
        ("tun0", "10.66.0.1", "0.0.0.0/0"),
    ]
    assert {"127.0.0.1", "10.1.2.3", "172.17.0.1"} < networks.own_addresses()
    own = networks.own_networks(lambda: found)
    assert [str(network) for network in own] == ["10.1.0.0/22", "fe80::/64", "10.8.0.1/32"]


def test_own_networks_are_none_if_system_is_silent() -> None:
    def refuse() -> Any:
        raise PermissionError("planted")

    assert networks.own_networks(refuse) == ()


def test_machine_without_route_has_an_interfaces_address() -> None:
    both = [inside("eth0", "fd00::1/64"), inside("eth0", "10.1.2.3/24")]
    refused = ("255.255.255.255", 9)  # by the kernel, without a packet
    assert networks.working_address(lambda: both, refused) == "10.1.2.3"
    assert networks.working_address(lambda: both[:1], refused) == "127.0.0.1"


def test_without_a_descriptor_the_first_interface_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(networks.socket, "socket", refuse)
    assert networks.working_address(list) == "127.0.0.1"


def test_working_network_is_that_of_working_address() -> None:
    def network_of(*own: str, working: str = "10.255.0.1") -> str:
        found = [inside(f"eth{number}", each) for number, each in enumerate(own)]
        return str(networks.working_network(lambda: found, lambda: working))

    two = ("10.1.2.3/24", "192.168.1.7/16")
    assert network_of(*two, working="192.168.1.7") == "192.168.0.0/16"
    assert network_of(*two) == "10.1.2.0/24"
    # a tunnel's end is no network, nor is one that every machine gives itself
    assert network_of("10.8.0.6/32", "10.66.0.1/0", "169.254.7.7/16", *two, working="10.8.0.6") == "10.1.2.0/24"
    assert network_of("fe80::1/64", "fd00:9::1/64", "10.1.2.3/24") == "10.1.2.0/24"
    assert network_of("fe80::1/64", "fd00:9::1/64", "10.8.0.6/32") == "fd00:9::/64"
    assert network_of("10.8.0.6/32", working="10.8.0.6") == "None"
    assert network_of(working="127.0.0.1") == "None"


def test_unknown_interfaces_give_no_working_network() -> None:
    def refuse() -> list[networks.InterfaceAddress]:
        raise OSError("planted")

    assert networks.working_network(refuse) is None


# --- the neighbour table ----------------------------------------------------------------------------


def message(kind: int, family: int, state: int, address: bytes, hardware: bytes = b"") -> bytes:
    body = struct.pack("=BxxxiHBB", family, 2, state, 0, 0)
    for number, value in ((1, address), (2, hardware)):
        if value:
            body += struct.pack("=HH", 4 + len(value), number) + value + b"\0" * (-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_the_kernels_answer_is_read_entry_by_entry() -> None:
    mac, v6 = b"\x02\xfc\0\0\0\x05", socket.inet_pton(socket.AF_INET6, "fd00::9")
    messages = [
        message(28, socket.AF_INET, 0x02, b"\x0a\0\0\x09", mac),
        message(28, socket.AF_INET6, 0x04, v6, mac),
        message(28, socket.AF_INET, 0x20, b"\x0a\0\0\x08"),
        message(28, socket.AF_INET, 0x40, b"\x0a\0\0\x07", mac),
        message(28, 7, 0x02, b"\x0a\0\0\x06", mac),
        message(99, socket.AF_INET, 0x02, b"\x0a\0\0\x05", mac),
    ]
    assert neighbours.neighbours(dump=lambda: messages) == [
        Neighbour("10.0.0.9", "02:fc:00:00:00:05"),
        Neighbour("fd00::9", "02:fc:00:00:00:05"),
        Neighbour("10.0.0.8", "", failed=True),
        Neighbour("10.0.0.7", ""),
    ]


def test_arp_file_replaces_forbidden_netlink(tmp_path: Path) -> None:
    file = tmp_path / "arp"
    file.write_text(
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "10.0.0.9         0x1         0x2         02:fc:00:00:00:05     *        eth0\n"
        "10.0.0.8         0x1         0x0         00:00:00:00:00:00     *        eth0\n"
    )

    def refuse() -> Any:
        raise PermissionError("planted")

    table = neighbours.neighbours(dump=refuse, arp_file=file)
    assert table == [Neighbour("10.0.0.9", "02:fc:00:00:00:05"), Neighbour("10.0.0.8", "")]
    file.unlink()
    assert neighbours.neighbours(dump=refuse, arp_file=file) == []


def test_the_real_table_can_be_read() -> None:
    for each in neighbours.neighbours():
        ipaddress.ip_address(each.address)


# --- bounds -----------------------------------------------------------------------------------------


def test_full_neighbour_table_slows_a_sweep(tmp_path: Path) -> None:
    size = tmp_path / "gc_thresh3"
    size.write_text("800\n")
    used = [Neighbour(f"10.0.{n >> 8}.{n & 255}", "aa") for n in range(100)]
    given_up = [Neighbour("10.1.0.1", "", failed=True)] * 50
    assert capacity.neighbour_budget(used + given_up, size) == 800 - 100 - 100
    assert capacity.neighbour_budget(used * 8, size) == limits.SWEEP_NEIGHBOURS_LEAST
    assert capacity.neighbour_budget([], tmp_path / "nothing") == 1024 - 128


def test_sockets_are_what_the_limit_of_descriptors_leaves() -> None:
    assert capacity.sockets_within(200, in_use=10) == 200 - 10 - limits.SWEEP_SPARE_DESCRIPTORS
    assert capacity.sockets_within(1_000_000, in_use=10) == limits.SWEEP_SOCKETS
    assert capacity.sockets_within(resource.RLIM_INFINITY, in_use=10) == limits.SWEEP_SOCKETS
    with pytest.raises(OSError, match="ulimit -n"):
        capacity.sockets_within(70, in_use=10)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert capacity.socket_budget() == capacity.sockets_within(limit, capacity.open_descriptors())


def test_open_descriptors_are_counted() -> None:
    before = capacity.open_descriptors()
    with socket.socket(), socket.socket():
        assert capacity.open_descriptors() == before + 2


# --- the survey -------------------------------------------------------------------------------------


def loopback_lan(**other: Any) -> Machine:
    """This machine as if its network were 127.0.9.0/28, itself 127.0.9.1: no test sweeps where it runs."""
    facts = {
        "interface_addresses": lambda: [inside("eth0", "127.0.9.1/28")],
        "own_addresses": lambda: ["127.0.9.1"],
        "neighbours": list,
    }
    return Machine(**{**facts, **other})


def surveyed(ports: list[int], prefix: int = 22, **machine: Any) -> tuple[survey.Surveyed, list[tuple[int, int, int]]]:
    told: list[tuple[int, int, int]] = []
    results: list[survey.Surveyed] = []
    over = threading.Event()

    def done(result: survey.Surveyed) -> None:
        results.append(result)
        over.set()

    one = survey.Survey(
        ports, prefix, lambda *counts: told.append(counts), done, loopback_lan(**machine), progress_every_s=0.0
    )
    one.start()
    assert over.wait(AMPLE_S)
    one.cancel()
    (result,) = results
    return result, told


def test_survey_asks_all_and_tells_its_progress(listening: int) -> None:
    closed = free_port("127.0.9.2")
    result, told = surveyed([listening, closed])
    assert [each[:2] for each in result.open] == [(f"127.0.9.{n}", listening) for n in range(2, 15)]
    assert (result.refused, result.silent, result.declined, result.failed) == (13, 0, (), "")
    assert [each[:2] for each in told] == [(n, 26) for n in range(1, 27)]
    assert told[-1] == (26, 26, 13)
    assert result.swept == 26


def test_failing_survey_says_so() -> None:
    def no_files() -> int:
        raise OSError(errno.EMFILE, "raise `ulimit -n`")

    result, _ = surveyed([1], socket_budget=no_files)
    assert "raise `ulimit -n`" in result.failed


def test_impossible_survey_says_why_it_fails() -> None:
    assert "larger than a /29" in surveyed([1], prefix=29)[0].failed
    assert "no interface but loopback is up" in surveyed([1], interface_addresses=list)[0].failed


def test_a_cancelled_survey_ends_its_sweep() -> None:
    heard: list[object] = []
    sockets = CountedSockets()
    long_sweep = functools.partial(Sweep, attempt_s=AMPLE_S, make_socket=sockets)
    with full_backlog("127.0.9.2") as silent:
        one = survey.Survey([silent], 22, lambda *counts: None, heard.append, loopback_lan(), long_sweep)
        one.start()
        wait_until(lambda: sockets.connects)
        one.cancel()
    assert heard == []
    assert sockets.open == 0


def test_nothing_is_told_after_cancel_has_returned() -> None:
    heard: list[object] = []
    running, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Through(Sweep):
        def run(self) -> bool:
            self._close()
            running.set()
            try:
                return go_on.wait(AMPLE_S)
            finally:
                ended.set()

        def cancel(self) -> None:
            threading.Timer(0.1, go_on.set).start()

    one = survey.Survey([1], 22, lambda *counts: None, heard.append, loopback_lan(), Through)
    one.start()
    assert running.wait(AMPLE_S)
    one.cancel()
    assert ended.is_set()
    assert heard == []
