"""What the processes of a host ask of the fleet: one message for all of them, an answer for each."""

from __future__ import annotations

import random
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.fleet.fleet_lease import LEASE_TIMER
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY
from miros_cache_net.fleet.questions import FleetQuestions
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.testing import ManualClock
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message, Origin
from tests.replicas import Port, replica


class Desk:
    """The questions of one bridge, with a clock to move and timers that ring when it passes them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sent: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.open_requests = OpenRequests()
        self._timers: dict[str, float] = {}
        self.questions = FleetQuestions(
            self,
            self.clock,
            self.open_requests,
            answer_timeout_s=1.0,
            own_status=lambda: {"node": "own"},  # type: ignore[typeddict-item]
            wall_ms=self.clock.wall_ms,
            rng=random.Random(1),
        )

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str:
        self.sent.append((kind, to))
        self.ids.append(f"id-{len(self.ids)}")
        return self.ids[-1]

    def after(self, name: str, delay_s: float) -> None:
        assert delay_s >= 0
        self._timers[name] = self.clock.monotonic_s() + delay_s

    def wait(self, seconds: float) -> None:
        end_s = self.clock.monotonic_s() + seconds
        while self._timers and min(self._timers.values()) <= end_s:
            name = min(self._timers, key=lambda each: self._timers[each])
            self.clock.advance(max(0.0, self._timers.pop(name) - self.clock.monotonic_s()))
            self.questions.timers[name]()
        self.clock.advance(end_s - self.clock.monotonic_s())

    def ask(self, what: str, timeout_s: float = 5.0) -> list[Answer]:
        answers: list[Answer] = []
        self.questions.ask(Question(what, self.clock.monotonic_s() + timeout_s, answers.append))
        return answers

    def hear(self, kind: str, body: Any, node: str = "beta-1", answers: str | None = None, reply_to: str = "") -> None:
        """The answer to the last message that was sent, unless another is named."""
        to = (self.ids or [""])[-1] if answers is None else answers
        message = Message(kind, "fleet", "c", "id", Origin(node, "beta", "boot", 0), 0, body, to)
        self.questions.received(message, reply_to)


READ_REQUEST = (kinds.CACHE_FILE_READ, ANY_PEER)
STATUS_REQUEST = (kinds.STATUS_REQUEST, EVERYBODY)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.questions.link_up(1)
    return made


def test_one_request_answers_everybody_who_wants_to_read(desk: Desk) -> None:
    askers = [desk.ask("read") for _ in range(100)]
    assert desk.sent == [READ_REQUEST]
    desk.hear(kinds.ANSWER, {"a": 1})
    assert askers == [[Answer({"a": 1})]] * 100
    desk.wait(10)
    assert desk.sent == [READ_REQUEST]


def test_silent_peer_is_followed_by_another(desk: Desk) -> None:
    answers = desk.ask("read")
    desk.wait(1.5)
    assert desk.sent == [READ_REQUEST, READ_REQUEST, STATUS_REQUEST]
    desk.hear(kinds.ANSWER, {"a": 1}, answers=desk.ids[1])
    assert answers == [Answer({"a": 1})]


def test_silence_is_no_document_at_each_askers_time(desk: Desk) -> None:
    short, long = desk.ask("read", 0.3), desk.ask("read", 2.0)
    desk.wait(0.5)
    assert (short, long) == ([Answer(None)], [])
    desk.wait(2.0)
    assert long == [Answer(None)]


def test_returned_request_goes_out_again_up_to_bound(desk: Desk) -> None:
    answers = desk.ask("read", 60)
    for number in range(1, limits.OWN_REQUESTS):
        assert len(desk.sent) == number
        desk.questions.came_back()
        desk.wait(0.9)
    assert answers == []
    desk.questions.came_back()
    assert answers == [Answer(None)]
    assert desk.sent == [READ_REQUEST] * limits.OWN_REQUESTS


@pytest.mark.parametrize("answers", ["", "id-99"])
def test_an_answer_to_another_question_answers_nothing(desk: Desk, answers: str) -> None:
    read, statuses = desk.ask("read", 1.0), desk.ask("statuses", 1.0)
    desk.hear(kinds.ANSWER, {"old": 1}, answers=answers)
    desk.hear(kinds.STATUS, {"node": "ghost"}, answers=answers)
    desk.wait(1)
    assert (read, statuses) == ([Answer(None)], [Answer([{"node": "own"}])])


def test_status_of_earlier_listing_is_in_no_other(desk: Desk) -> None:
    desk.ask("statuses", 1.0)
    before = desk.ids[-1]
    desk.wait(2)
    answers = desk.ask("statuses", 1.0)
    desk.hear(kinds.STATUS, {"node": "late"}, answers=before)
    desk.wait(2)
    assert answers == [Answer([{"node": "own"}])]


def test_other_requests_leave_the_listing_open(desk: Desk) -> None:
    answers = desk.ask("statuses", 1.0)
    for number in range(2 * limits.OPEN_REQUESTS):
        desk.open_requests.add(f"digest-{number}", "what a digest has this host ask")
    desk.hear(kinds.STATUS, {"node": "beta"})
    desk.wait(2)
    assert answers == [Answer([{"node": "own"}, {"node": "beta", "ahead_s": None}])]


@pytest.mark.parametrize(("clock_ms", "ahead_s"), [(-299_000, -299.0), (3_600_500, 3600.5), ("late", None)])
def test_other_clocks_are_compared_half_way(clock_ms: Any, ahead_s: float | None, desk: Desk) -> None:
    answers = desk.ask("statuses", 5.0)
    said_ms = clock_ms if isinstance(clock_ms, str) else desk.clock.wall_ms() + 500 + clock_ms
    desk.wait(1.0)
    desk.hear(kinds.STATUS, {"node": "beta", "clock_ms": said_ms, "ahead_s": 7.0})
    desk.wait(2.0)
    assert answers[0].value[1]["ahead_s"] == ahead_s


def test_listing_that_is_over_takes_no_status(desk: Desk) -> None:
    desk.ask("statuses", 1.0)
    desk.questions.link_down("gone")
    desk.questions.link_up(1)
    answers = desk.ask("statuses", 1.0)
    desk.hear(kinds.STATUS, {"node": "ghost"}, answers=desk.ids[0])
    desk.hear(kinds.STATUS, {"node": "ghost"}, answers="")
    desk.wait(2)
    assert answers == [Answer([{"node": "own"}])]


def test_read_without_request_queue_asks_hosts_in_step() -> None:
    desk = Desk()
    desk.questions.link_up(None)
    answers = desk.ask("read")
    assert desk.sent == [STATUS_REQUEST]
    asked = desk.ids[-1]
    desk.hear(kinds.STATUS, {"connected": False}, answers=asked, reply_to="amq.gen-joining")
    desk.hear(kinds.STATUS, {"connected": True}, answers=asked)
    desk.hear(kinds.STATUS, {"connected": True}, answers=asked, reply_to="amq.gen-1")
    desk.hear(kinds.STATUS, {"connected": True}, answers=asked, reply_to="amq.gen-2")
    assert desk.sent == [STATUS_REQUEST, (kinds.CACHE_FILE_READ, "amq.gen-1")]
    desk.hear(kinds.ANSWER, {"a": 1})
    assert answers == [Answer({"a": 1})]


def test_lost_request_asks_for_statuses_at_once(desk: Desk) -> None:
    desk.questions.request_lost()
    assert desk.sent == []
    answers = desk.ask("read")
    desk.questions.request_lost()
    desk.questions.request_lost()
    assert desk.sent == [READ_REQUEST, STATUS_REQUEST]
    desk.hear(kinds.STATUS, {"connected": True}, reply_to="amq.gen-1")
    desk.hear(kinds.ANSWER, {"a": 1})
    assert answers == [Answer({"a": 1})]


def test_late_requests_of_others_are_ignored(desk: Desk) -> None:
    desk.questions.came_back()
    desk.hear(kinds.ANSWER, {"late": True})
    desk.hear(kinds.STATUS, {"node": "late"})
    desk.wait(5)
    assert desk.sent == []


def test_statuses_end_when_no_other_has_come(desk: Desk) -> None:
    first, second = desk.ask("statuses"), desk.ask("statuses")
    assert desk.sent == [STATUS_REQUEST]
    desk.hear(kinds.STATUS, {"node": "beta"})
    desk.wait(0.4)
    desk.hear(kinds.STATUS, {"node": "gamma"}, "gamma-1")
    desk.hear(kinds.STATUS, {"node": "gamma, again"}, "gamma-1")
    desk.hear(kinds.STATUS, "no object", "delta-1")
    desk.wait(0.4)
    assert first == []
    desk.wait(0.2)
    assert (
        first
        == second
        == [Answer([{"node": "own"}, *({"node": name, "ahead_s": None} for name in ("beta", "gamma, again"))])]
    )


def test_lone_node_sees_itself_when_time_is_up(desk: Desk) -> None:
    answers = desk.ask("statuses", 2.0)
    desk.wait(1.9)
    assert answers == []
    desk.wait(0.2)
    assert answers == [Answer([{"node": "own"}])]


def test_second_round_does_not_repeat_the_first(desk: Desk) -> None:
    desk.ask("statuses", 1.0)
    desk.hear(kinds.STATUS, {"node": "beta"})
    desk.wait(2)
    answers = desk.ask("statuses", 1.0)
    desk.wait(2)
    assert answers == [Answer([{"node": "own"}])]
    assert desk.sent == [STATUS_REQUEST] * 2


def test_before_the_first_link_questions_wait_for_it() -> None:
    desk = Desk()
    read, statuses, short = desk.ask("read"), desk.ask("statuses"), desk.ask("read", 0.5)
    desk.wait(1)
    assert desk.sent == []
    assert "no link" in short[0].error
    desk.questions.link_up(1)
    assert desk.sent == [READ_REQUEST, STATUS_REQUEST]
    desk.hear(kinds.ANSWER, {"a": 1}, answers=desk.ids[0])
    assert read == [Answer({"a": 1})]
    desk.wait(10)
    assert statuses == [Answer([{"node": "own"}])]


def test_without_a_link_everybody_hears_why_at_once(desk: Desk) -> None:
    read, statuses = desk.ask("read"), desk.ask("statuses")
    desk.questions.link_down("no RabbitMQ there: start it")
    later = desk.ask("read")
    assert read == statuses == later == [Answer(None, "no RabbitMQ there: start it")]
    desk.questions.link_up(1)
    assert desk.sent == [READ_REQUEST, STATUS_REQUEST]


def test_a_question_of_another_release_is_answered(desk: Desk) -> None:
    assert "one release" in desk.ask("the weather")[0].error


def test_bridge_timers_have_distinct_names(desk: Desk) -> None:
    of_replica = replica(Port(), desk.clock).timers
    names = [*of_replica, *desk.questions.timers, LEASE_TIMER]
    assert len(set(names)) == len(names) == 7
