"""A host that is watched: bounded in watchers and rate, and quiet again afterwards."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.errors import MessageRefused, Unroutable
from miros_cache_net.fleet import traces as traces_module
from miros_cache_net.fleet.trace_watch import HOLD_S, HostStep, InOrder, OpenWatch
from miros_cache_net.fleet.traces import Traces
from miros_cache_net.host.channel import Channel
from miros_cache_net.host.messages import STEPS, Steps, encode, from_follower
from miros_cache_net.host.step_report import StepReport
from miros_cache_net.observe.on_the_way import packed, size_of, unpacked
from miros_cache_net.observe.registry import Registry
from miros_cache_net.observe.steps import DETAIL, Recorder, Step, StepReader
from miros_cache_net.testing import wait_until
from miros_cache_net.wire.envelope import Message, Origin
from tests.threads import NewThreads


def step(number: int, chart: str = "lamp", **more: Any) -> Step:
    return Step(number, 7, chart, "PRESS", "off", "on", 12, **more)


def long_steps() -> list[Step]:
    """As many as a host holds, and more than it may send at once."""
    return [step(n, sent=("x" * 100,) * 4) for n in range(limits.TRACE_HELD)]


class Sender:
    """Keeps what was sent: body, queue, request's id."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, Any], str, str]] = []
        self.refusals: list[Callable[[MessageRefused], None]] = []
        self.losses: list[Callable[[], None]] = []

    def __call__(
        self, body: Any, to: str, answers: str, refused: Callable[[MessageRefused], None], lost: Callable[[], None]
    ) -> None:
        self.sent.append((body, to, answers))
        self.refusals.append(refused)
        self.losses.append(lost)

    def steps(self, to: str) -> list[Step]:
        return [each for body, queue, _ in list(self.sent) if queue == to for each in unpacked(body["steps"], 10_000)]

    def bytes_sent(self) -> int:
        return sum(size_of(each) for body, _, _ in self.sent for each in body["steps"])


class Host:
    def __init__(self) -> None:
        self.threads = NewThreads()
        self.sender, self.registry = Sender(), Registry()
        self.traces = Traces(self.sender, lambda: None, self.registry)

    def asked(self, watch: str, number: int = 1, boot: str = "b00f", **body: Any) -> None:
        origin = Origin("client-1a2b", "client", boot, number)
        message = Message("trace_request", "s", "d", f"{boot}-{number}", origin, 0, {"watch": watch, **body})
        self.traces.asked(message, f"amq.gen-{watch}")

    @property
    def watchers(self) -> int:
        return self.registry.flat()["trace_watches"]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    # the process's own recorder has steps of earlier tests' charts
    monkeypatch.setattr(traces_module, "StepReader", lambda: StepReader(Recorder()))
    made = Host()
    yield made
    made.traces.close()
    wait_until(lambda: not made.threads.names("traces"), what="the thread's end")
    assert not DETAIL.spy and not DETAIL.payloads


def test_nothing_runs_while_nobody_watches(host: Host) -> None:
    host.traces.heard([step(1)])
    assert host.threads.names() == []
    assert host.traces.watched == "" and host.sender.sent == []


def test_watcher_is_answered_at_once_then_sent_steps(host: Host) -> None:
    host.asked("w")
    assert host.sender.sent[0] == ({"steps": [], "missed": 0, "said": ""}, "amq.gen-w", "b00f-1")
    host.traces.heard([step(2), step(1)])
    wait_until(lambda: [each.moment for each in host.sender.steps("amq.gen-w") if each.process == 7] == [1, 2])


def test_second_watcher_has_the_past_too(host: Host) -> None:
    host.asked("one")
    host.traces.heard([step(1)])
    wait_until(lambda: step(1) in host.sender.steps("amq.gen-one"), what="the first")
    host.asked("two")
    wait_until(lambda: step(1) in host.sender.steps("amq.gen-two"), what="the second")


def test_only_chosen_charts_are_sent(host: Host) -> None:
    host.asked("w", charts=["lamp"])
    host.traces.heard([step(1, "other"), step(2)])
    wait_until(lambda: host.sender.steps("amq.gen-w") == [step(2)], what="the lamp's step")


def test_details_go_only_to_who_asked(host: Host) -> None:
    host.asked("plain")
    host.asked("curious", spy=True, payloads=True)
    assert host.traces.watched == "steps spy payloads" and DETAIL.spy and DETAIL.payloads
    full = step(1, spy=("PRESS:off",), payload="{'n': 1}")
    host.traces.heard([full])
    wait_until(lambda: full in host.sender.steps("amq.gen-curious"), what="the details")
    wait_until(lambda: step(1) in host.sender.steps("amq.gen-plain"), what="the rest")


def test_of_a_thousand_watchers_few_are_served(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.monotonic()  # the rate earns nothing meanwhile
    monkeypatch.setattr(traces_module, "time", SimpleNamespace(monotonic=lambda: now_s))
    for number in range(1000):
        host.asked(f"w{number}", number)
    assert host.watchers == limits.TRACE_WATCHES
    said = [body["said"] for body, _, _ in list(host.sender.sent) if body["said"]]
    assert said and all("already" in each for each in said)
    assert len(host.sender.sent) <= limits.TRACE_BYTES_AT_ONCE / limits.TRACE_STEP_BYTES + 1


def test_flood_of_steps_stays_within_the_rate(host: Host) -> None:
    began_s = time.monotonic()
    for number in range(limits.TRACE_WATCHES):
        host.asked(f"w{number}", number)
    for _ in range(4):
        host.traces.heard(long_steps())
        wait_until(lambda: not host.traces._of_others, what="the steps to be taken")
    taken_s = time.monotonic() - began_s
    assert host.sender.bytes_sent() <= limits.TRACE_BYTES_AT_ONCE + (taken_s + 1) * limits.TRACE_BYTES_PER_S


def test_look_of_a_slow_host_ends(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.traces, "_run", lambda: None)
    ticks = itertools.count(time.monotonic(), 0.01)
    monkeypatch.setattr(traces_module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    host.asked("w")
    host.traces._reader = StepReader(Recorder())
    host.traces.heard(long_steps())
    assert host.traces._look()
    assert 0.9 * limits.TRACE_BYTES_AT_ONCE <= host.sender.bytes_sent() <= limits.TRACE_BYTES_AT_ONCE


def test_watchers_take_turns_at_the_rate(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.traces, "_run", lambda: None)
    ticks = itertools.count(time.monotonic(), 1.0)
    monkeypatch.setattr(traces_module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    host.asked("one", 1)
    host.asked("two", 2)
    host.traces._reader = StepReader(Recorder())
    for _ in range(6):
        host.traces.heard(long_steps())
        assert host.traces._look()
    sent = [len(host.sender.steps(queue)) for queue in ("amq.gen-one", "amq.gen-two")]
    assert min(sent) > max(sent) / 4


def test_missed_steps_are_told(host: Host) -> None:
    host.asked("w")
    host.traces.heard([step(1)])
    wait_until(lambda: step(1) in host.sender.steps("amq.gen-w"), what="the first")
    for _ in range(3):
        host.traces.heard(long_steps())
        wait_until(lambda: not host.traces._of_others, what="the steps to be taken")
    wait_until(lambda: sum(body["missed"] for body, _, _ in list(host.sender.sent)) > 0, what="what was missed")
    wait_until(lambda: host.registry.flat()["trace_steps_missed"] > 0)


def test_steps_lost_with_the_link_are_told(host: Host) -> None:
    host.asked("w", charts=["lamp"])
    host.traces.heard([step(1), step(2)])
    wait_until(lambda: len(host.sender.steps("amq.gen-w")) == 2, what="two steps")
    host.sender.losses[-1]()
    host.traces.heard([step(3)])
    wait_until(lambda: host.sender.sent[-1][0]["missed"] == 2, what="what was lost")


def test_watch_that_is_not_renewed_ends(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRACE_WATCH_S", 0.5)
    host.asked("w", spy=True)
    wait_until(lambda: host.watchers == 0 and not DETAIL.spy, what="the end")
    host.asked("w", 2)
    assert host.watchers == 1


def test_watch_ends_when_its_queue_is_gone(host: Host) -> None:
    host.asked("w")
    host.sender.refusals[0](Unroutable("no queue"))
    assert host.watchers == 0


def test_strangers_request_cannot_redirect_a_watch(host: Host) -> None:
    host.asked("w")
    host.asked("w", 2, boot="other")
    host.traces.heard([step(1)])
    wait_until(lambda: step(1) in host.sender.steps("amq.gen-w"), what="the step")
    assert {answers for _, _, answers in host.sender.sent} == {"b00f-1"}


@pytest.mark.parametrize(
    "body", [None, 7, [], {"watch": 5, "charts": {}, "spy": "yes"}, {"charts": [1, None]}], ids=str
)
def test_malformed_requests_watch_plainly(host: Host, body: Any) -> None:
    message = Message("trace_request", "s", "d", "id-1", Origin("c-1", "c", "b", 1), 0, body)
    host.traces.asked(message, "amq.gen-x")
    assert host.traces.watched == "steps" and len(host.sender.sent) >= 1


# --- on the way ----------------------------------------------------------------------------------------------------


def test_step_survives_the_way() -> None:
    full = step(1, hooks=("on",), sent=("A", "B"), spy=("A:on",), payload="{'n': 1}")
    assert list(unpacked([packed(full)], 10)) == [full]


def test_long_step_is_cut_to_its_bound() -> None:
    huge = step(1, chart="c" * 10_000, sent=("s" * 10_000,) * 16, spy=("x" * 500,) * 500, payload="p" * 500)
    assert size_of(packed(huge)) <= limits.TRACE_STEP_BYTES
    assert list(unpacked([packed(huge)], 10))


@pytest.mark.parametrize("text", ['"' * 500, "\\" * 500, "\udc80" * 500, "\x00" * 500, "\U0001f600" * 500])
def test_any_text_fits_the_message_to_the_bridge(text: str) -> None:
    made = packed(step(1, payload=text, spy=(text,) * 10))
    assert len(encode(Steps([made]))) <= limits.HOST_REQUEST_BYTES
    assert size_of(made) <= limits.TRACE_STEP_BYTES


@pytest.mark.parametrize("letter", ["\x00", "\U0001f600"], ids=ascii)
def test_step_that_fits_no_message_is_skipped(letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    long = letter * limits.TRACE_NAME
    fresh = [step(1), step(2, long, sent=(long,) * 16), Step(3, 7, long, long, long, long, 1), step(4, hooks=(long,))]
    monkeypatch.setattr(StepReader, "fresh", lambda _: fresh)
    report, (ours, theirs) = StepReport(), socket.socketpair()
    with ours, theirs:
        channel, bridge = Channel(ours, limits.HOST_ANSWER_BYTES), Channel(theirs, limits.HOST_REQUEST_BYTES)
        report.told(STEPS)
        report.send(channel)
        report.told("")
        arrived = [each[0] for body in bridge.receive() or [] for each in from_follower(body).steps]
    assert {1, 2, 4} <= set(arrived)


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        "steps",
        [None, 7, [], {}],
        [["1", 7, "c", "e", "a", "b", 1, [], [], [], ""]],
        [[1, 7, "c" * 1000, "e", "a", "b", 1, [], [], [], ""]],
        [[1, 7, None, "e", "a", "b", 1, [], [], [], ""]],
        [[2**80, 7, "c", "e", "a", "b", 1, [], [], [], ""]],
        [[True, 7, "c", "e", "a", "b", 1, [], [], [], ""]],
        [[1, 7, "c", "e", "a", "b", -1, [], [], [], ""]],
        [[1, 7, "c", "e", "a", "b", 1, [], [], [], {}]],
    ],
    ids=str,
)
def test_what_is_no_step_is_left_out(hostile: Any) -> None:
    assert list(unpacked(hostile, 10)) == []


def test_lists_in_a_step_are_bounded() -> None:
    (found,) = unpacked([[1, 7, "c", "e", "a", "b", 1, ["h", 7] * 1000, "x", ["l" * 10_000], "p" * 10_000]], 10)
    assert len(found.hooks) <= 64 and found.sent == ()
    assert max(map(len, [*found.spy, found.payload])) <= limits.STEP_TEXT


# --- the watcher ---------------------------------------------------------------------------------------------------


def seen(number: int, host: str) -> HostStep:
    return HostStep(step(number), host, f"{host}-1a2b")


def test_steps_of_two_hosts_come_in_one_order() -> None:
    order = InOrder()
    order.put([seen(4, "a"), seen(1, "a")], now_s=0.0)
    assert list(order.ripe(0.1)) == []
    order.put([seen(2, "b"), seen(6, "b")], now_s=0.2)
    assert [each.step.moment for each in order.ripe(HOLD_S)] == [1, 2, 4]
    assert [each.step.moment for each in order.rest()] == [6]


def test_what_waits_for_its_order_is_bounded() -> None:
    order = InOrder()
    order.put([seen(number, "a") for number in range(limits.TRACE_HELD + 50)], now_s=0.0)
    assert len(list(order.ripe(0.0))) == 50


def test_only_answers_to_open_requests_count() -> None:
    watch = OpenWatch()
    watch.asked("mine-1")

    def answered(kind: str, answers: str) -> bool:
        body = {"steps": [packed(step(1))], "missed": "x", "said": 5}
        message = Message(kind, "s", "d", "id", Origin("a-1", "a", "b", 1), 0, body, answers)
        return watch.answer(message) is not None

    assert answered("trace", "mine-1")
    assert not answered("trace", "other-1") and not answered("trace", "") and not answered("status", "mine-1")
    for number in range(2, 20):
        watch.asked(f"mine-{number}")
    assert not answered("trace", "mine-1")
