"""The host's socket: what is said on it, who may, and what hostile or sleepy company can do."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.errors import BrokerUnreachable, HostProtocolError, Reason
from miros_cache_net.host import messages
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.admission import Admission, peer_of
from miros_cache_net.host.bridge_lock import BridgeLock
from miros_cache_net.host.follower import Follower
from miros_cache_net.host.messages import Ask, Frames, Full, Hello, Look, Reply, State, encode
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.host.socket import HostServer
from miros_cache_net.host.stranger import fleets_of
from miros_cache_net.observe.families import BRIDGES_MET
from miros_cache_net.observe.registry import Registry
from miros_cache_net.statechart.listener import Listener as ChartOfSteps
from miros_cache_net.testing import wait_until
from tests.descriptors import NewDescriptors
from tests.threads import NewThreads

ANYBODY_LIKE_ME = Admission(frozenset({os.geteuid()}), None)
SOMEBODY_ELSE = Admission(frozenset({os.geteuid() + 4711}), None)
FIRST, SECOND = State("1" * 32, True, "RabbitMQ 4"), State("2" * 32, False, "", "no broker")


class Listener:
    """What the server asks of its bridge."""

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.questions: list[Question] = []
        self.steps: list[Any] = []
        self.answer: Answer | None = None

    def please_look(self, version: str) -> None:
        self.looks.append(version)

    def stepped(self, steps: list[Any]) -> None:
        self.steps += steps

    def asked(self, question: Question) -> None:
        self.questions.append(question)
        if self.answer is not None:
            question.done(self.answer)


class Bridge:
    """A server that listens, and its listener."""

    def __init__(self, address: SocketAddress, admission: Admission = ANYBODY_LIKE_ME) -> None:
        self.listener = Listener()
        self.registry = Registry()
        self.server = HostServer(address, admission, self.listener, self.registry)
        self.server.start(0o600, os.getegid())

    def counts(self, name: str, number: int = 1) -> None:
        wait_until(lambda: self.registry.flat()[name] == number, what=f"{number} {name} in {self.registry.flat()}")


class Client:
    """A raw connection: says what it likes."""

    def __init__(self, address: SocketAddress) -> None:
        self.socket = address.connect()
        self.socket.setblocking(True)
        self.socket.settimeout(10)
        self._frames = Frames(limits.HOST_ANSWER_BYTES)
        self._bodies: list[bytes] = []

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def hear(self) -> Any:
        while not self._bodies:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._bodies += self._frames.feed(data)
        return messages.from_bridge(self._bodies.pop(0))

    def is_hung_up_on(self) -> bool:
        deadline_s = time.monotonic() + 10
        with contextlib.suppress(ConnectionResetError):
            while self.hear() is not None:
                assert time.monotonic() < deadline_s, "still spoken to"
        return True


@pytest.fixture
def address(tmp_path: Path) -> SocketAddress:
    return SocketAddress(tmp_path / ".cache.json.bridge-0.lock")


@pytest.fixture
def bridge(address: SocketAddress) -> Iterator[Bridge]:
    made = Bridge(address)
    yield made
    made.server.close()


@pytest.fixture
def client(address: SocketAddress) -> Iterator[Callable[[], Client]]:
    with contextlib.ExitStack() as open_sockets:

        def connect() -> Client:
            made = Client(address)
            open_sockets.callback(made.socket.close)
            return made

        yield connect


def framed(value: Any) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(body).to_bytes(4, "big") + body


def never(*_: object) -> Any:
    raise AssertionError("this must not be called")


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [Hello(), Look("1" * 32), Ask(7, "read", 1.5), Ask(0, "statuses", 3)])
def test_what_a_follower_says_arrives_as_it_was(message: Any) -> None:
    (body,) = Frames(limits.HOST_REQUEST_BYTES).feed(encode(message))
    assert messages.from_follower(body) == message


@pytest.mark.parametrize("message", [FIRST, SECOND, Reply(7, {"a": [1, None]}), Reply(8, None, "no"), Full()])
def test_what_a_bridge_says_arrives_as_it_was(message: Any) -> None:
    (body,) = Frames(limits.HOST_ANSWER_BYTES).feed(encode(message))
    assert messages.from_bridge(body) == message


def test_split_and_joined_messages_are_told_apart() -> None:
    stream = encode(Hello()) + encode(Look("v")) + encode(Ask(1, "read", 1))
    frames = Frames(limits.HOST_REQUEST_BYTES)
    bodies = [body for index in range(len(stream)) for body in frames.feed(stream[index : index + 1])]
    assert bodies == Frames(limits.HOST_REQUEST_BYTES).feed(stream)
    assert [type(messages.from_follower(body)) for body in bodies] == [Hello, Look, Ask]


@pytest.mark.parametrize("length", [0, 101, 2**32 - 1])
def test_bad_length_is_refused_before_its_body_comes(length: int) -> None:
    with pytest.raises(HostProtocolError, match="1 to 100"):
        Frames(100).feed(length.to_bytes(4, "big"))


@pytest.mark.parametrize(
    "value",
    [
        b"garbage",
        b"\xff\xfe",
        b'{"v":1,"v":1,"kind":"hello"}',
        b"[" * 2000,
        b'{"v":1,"kind":"look","version":"\\ud800"}',
        [],
        {"kind": "hello"},
        {"v": True, "kind": "hello"},
        {"v": 1, "kind": ["hello"]},
        {"v": 1, "kind": "state", "version": "", "connected": True, "broker": "", "trouble": ""},
        {"v": 1, "kind": "look"},
        {"v": 1, "kind": "look", "version": "x" * 501},
        {"v": 1, "kind": "look", "version": "\n"},
        {"v": 1, "kind": "ask", "number": 1, "what": "passwords", "timeout_s": 1},
        {"v": 1, "kind": "ask", "number": -1, "what": "read", "timeout_s": 1},
        {"v": 1, "kind": "ask", "number": 1, "what": "read", "timeout_s": 0},
        {"v": 1, "kind": "ask", "number": 1, "what": "read", "timeout_s": 1e9},
        {"v": 1, "kind": "ask", "number": 1, "what": "read", "timeout_s": True},
        {"v": 1, "kind": "ask", "number": 1.0, "what": "read", "timeout_s": 1},
    ],
)
def test_what_no_follower_says_is_refused(value: Any) -> None:
    with pytest.raises(HostProtocolError):
        messages.from_follower(framed(value)[4:])


def test_bridge_that_knows_no_watch_is_understood() -> None:
    before = framed({"v": 1, "kind": "state", "version": "1", "connected": True, "broker": "", "trouble": ""})
    assert messages.from_bridge(before[4:]) == State("1", True)
    watched = State("1", True, watched="steps spy")
    assert messages.from_bridge(encode(watched)[4:]) == watched


def test_steps_of_a_follower_reach_the_bridge(bridge: Bridge, address: SocketAddress) -> None:
    watcher = Watcher(address)
    bridge.server.tell(FIRST._replace(watched="steps"))
    chart = ChartOfSteps({}, "seen by its bridge")
    wait_until(lambda: any(each[2] == "seen by its bridge" for each in bridge.listener.steps), what="its steps")
    bridge.server.tell(FIRST)
    watcher.hears(FIRST)
    chart.stop()
    watcher.follower.close()


def test_another_version_is_named_with_what_helps() -> None:
    with pytest.raises(HostProtocolError, match="one release"):
        messages.from_follower(framed({"v": 2, "kind": "hello"})[4:])


@pytest.mark.parametrize(
    "value",
    [{"v": 1, "kind": "hello"}, {"v": 1, "kind": "state", "version": "x", "connected": 1, "broker": "", "trouble": ""}],
)
def test_what_no_bridge_says_is_refused(value: Any) -> None:
    with pytest.raises(HostProtocolError):
        messages.from_bridge(framed(value)[4:])


def test_fields_of_a_later_release_are_passed_over() -> None:
    assert messages.from_follower(framed({"v": 1, "kind": "hello", "colour": "red"})[4:]) == Hello()


def test_refusal_never_repeats_what_was_sent() -> None:
    with pytest.raises(HostProtocolError) as refusal:
        messages.from_follower(b'{"hunter2": NaN}')
    assert "hunter2" not in str(refusal.value)


def test_broker_trouble_of_any_length_can_be_told() -> None:
    (body,) = Frames(limits.HOST_ANSWER_BYTES).feed(encode(State("", False, "\0", "line\nline" * 200)))
    told = messages.from_bridge(body)
    assert isinstance(told, State)
    assert told.trouble.startswith("line line")


def test_answer_that_nobody_would_take_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOST_ANSWER_BYTES", 1000)
    with pytest.raises(HostProtocolError, match="1000 fit"):
        encode(Reply(1, "x" * 1000))


# --- who may ----------------------------------------------------------------------------------------


def test_kernel_identifies_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
        assert peer is not None
        assert peer.uid == os.geteuid()
        assert {os.getegid(), *os.getgroups()} == peer.groups
        assert ANYBODY_LIKE_ME.admits(ours)
        assert not SOMEBODY_ELSE.admits(ours)
        assert Admission(frozenset(), os.getegid()).admits(ours)
        assert not Admission(frozenset(), os.getegid() + 4711).admits(ours)
        assert not Admission(frozenset(), None).admits(ours)


@pytest.mark.parametrize(("mode", "group"), [(0o600, False), (0o660, True)])
def test_the_socket_admits_whom_the_lock_file_admits(tmp_path: Path, mode: int, group: bool) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    lock.chmod(mode)
    admission = Admission.as_for(lock.stat())
    assert admission.users == {0, os.geteuid()}
    assert admission.group == (lock.stat().st_gid if group else None)


def test_socket_has_given_mode_and_leaves_nothing_behind(address: SocketAddress) -> None:
    server = HostServer(address, ANYBODY_LIKE_ME, Listener(), Registry())
    server.start(0o660, os.getegid())
    status = os.stat(address.path)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o660
    server.close()
    assert list(address.path.parent.iterdir()) == []


def test_process_of_another_user_is_hung_up_on(address: SocketAddress, client: Callable[[], Client]) -> None:
    bridge = Bridge(address, SOMEBODY_ELSE)
    bridge.server.tell(FIRST)
    stranger = client()
    with contextlib.suppress(BrokenPipeError):
        stranger.say(encode(Hello()))
    assert stranger.is_hung_up_on()
    bridge.counts("followers_refused")
    bridge.server.close()


def test_socket_in_very_long_directory_is_reached(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    address = SocketAddress(directory / ".cache.json.bridge-0.lock")
    bridge = Bridge(address)
    bridge.server.tell(FIRST)
    follower = Client(address)
    follower.say(encode(Hello()))
    assert follower.hear() == FIRST
    follower.socket.close()
    bridge.server.close()


def test_new_bridge_takes_a_killed_ones_place(address: SocketAddress) -> None:
    left_over = address.listen(0o600, os.getegid())
    left_over.close()
    bridge = Bridge(address)
    follower = Client(address)
    follower.socket.close()
    bridge.server.close()


# --- the bridge's end -------------------------------------------------------------------------------


def test_follower_hears_the_state_and_its_changes(bridge: Bridge, client: Callable[[], Client]) -> None:
    bridge.server.tell(FIRST)
    follower = client()
    follower.say(encode(Hello()))
    assert follower.hear() == FIRST
    bridge.server.tell(SECOND)
    assert follower.hear() == SECOND
    assert bridge.registry.flat()["followers"] == 1
    bridge.counts("notices_sent", 2)


def test_early_follower_hears_the_first_state(bridge: Bridge, client: Callable[[], Client]) -> None:
    follower = client()
    follower.say(encode(Hello()))
    bridge.counts("followers")
    bridge.server.tell(FIRST)
    assert follower.hear() == FIRST


def test_signs_of_life_come_without_any_change(
    bridge: Bridge, client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOST_BEAT_S", 0.01)
    bridge.server.tell(FIRST)
    follower = client()
    follower.say(encode(Hello()))
    assert [follower.hear() for _ in range(4)] == [FIRST] * 4
    assert bridge.registry.flat()["notices_sent"] <= 1


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        framed(b"garbage"),
        (2**31).to_bytes(4, "big"),
        framed({"v": 1, "kind": "look", "version": "x"}),
        encode(Hello()) + framed({"v": 1, "kind": "state"}),
        encode(Hello()) + framed(b"{" * 4000),
        encode(Hello()) + os.urandom(100_000),
    ],
)
def test_protocol_breaker_is_dropped_and_others_stay(bridge: Bridge, client: Callable[[], Client], bad: bytes) -> None:
    bridge.server.tell(FIRST)
    good, hostile = client(), client()
    good.say(encode(Hello()))
    assert good.hear() == FIRST
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        hostile.say(bad)
    assert hostile.is_hung_up_on()
    bridge.counts("followers_dropped")
    bridge.server.tell(SECOND)
    assert good.hear() == SECOND
    bridge.counts("followers")


def test_half_a_message_keeps_nobody_waiting(bridge: Bridge, client: Callable[[], Client]) -> None:
    bridge.server.tell(FIRST)
    half, whole = client(), client()
    half.say(encode(Hello()), encode(Look("v"))[:9])
    whole.say(encode(Hello()))
    assert whole.hear() == FIRST
    half.say(encode(Look("v"))[9:])
    wait_until(lambda: bridge.listener.looks == ["v"], what="the second half")


def test_who_never_says_hello_is_dropped(
    bridge: Bridge, client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOST_BEAT_S", 0.01)
    monkeypatch.setattr(limits, "HOST_ANSWER_S", 0.1)
    bridge.server.tell(FIRST)
    assert client().is_hung_up_on()
    assert bridge.registry.flat()["followers_dropped"] == 1


def read_nothing_until_full(bridge: Bridge, sleeper: Client) -> None:
    """Changes come until the kernel takes no more for `sleeper`, and on."""
    followers = bridge.server._followers
    number = 0

    def full() -> bool:
        nonlocal number
        number += 1
        bridge.server.tell(State(f"{number:032}", True))
        return bool(followers) and all(each.behind for each in followers.values())

    sleeper.say(encode(Hello()))
    wait_until(full, what="a full buffer")


def test_slow_reader_costs_bounded_buffer_and_hears_newest(
    bridge: Bridge, client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOST_BEAT_S", 3600)
    bridge.server.tell(FIRST)
    sleeper = client()
    read_nothing_until_full(bridge, sleeper)
    for number in range(5000):
        bridge.server.tell(State(f"later {number}", True))
    bridge.server.tell(SECOND)
    wait_until(lambda: bridge.server._told == SECOND, what="the newest state to be told to whoever reads")
    (waiting,) = [each.channel.waiting for each in bridge.server._followers.values()]
    assert 0 < waiting < limits.HOST_REQUEST_BYTES
    heard = 0
    while sleeper.hear() != SECOND:
        heard += 1
    assert heard < 2000


def test_reader_stalled_for_long_is_dropped(
    bridge: Bridge, client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOST_BEAT_S", 0.02)
    monkeypatch.setattr(limits, "HOST_STALLED_S", 0.1)
    bridge.server.tell(FIRST)
    sleeper = client()
    read_nothing_until_full(bridge, sleeper)
    bridge.counts("followers_dropped")
    awake = client()
    awake.say(encode(Hello()))
    assert awake.hear() is not None
    assert sleeper.is_hung_up_on()


def test_full_bridge_says_so_and_hangs_up(
    address: SocketAddress, client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOST_FOLLOWERS", 2)
    bridge = Bridge(address)
    bridge.server.tell(FIRST)
    for _ in range(2):
        client().say(encode(Hello()))
    bridge.counts("followers", 2)
    third = client()
    assert third.hear() == Full()
    assert third.hear() is None
    bridge.counts("followers_refused")
    bridge.server.close()


def test_room_for_followers_is_what_the_descriptors_leave(
    address: SocketAddress, client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    from miros_cache_net.host import socket as host_socket

    monkeypatch.setattr(host_socket, "_descriptors", lambda: limits.HOST_SPARE_DESCRIPTORS)
    bridge = Bridge(address)
    assert client().hear() == Full()
    bridge.server.close()


def test_request_to_look_is_passed_on_if_new(bridge: Bridge, client: Callable[[], Client]) -> None:
    bridge.server.tell(FIRST)
    follower = client()
    follower.say(encode(Hello()), encode(Look(FIRST.version)), *[encode(Look("new"))] * 5, encode(Look("newer")))
    wait_until(lambda: "newer" in bridge.listener.looks, what="the looks")
    assert bridge.listener.looks == ["new", "newer"]


def asked(bridge: Bridge, number: int = 1) -> list[Question]:
    return wait_until(lambda: len(bridge.listener.questions) >= number and bridge.listener.questions, what="questions")


def test_questions_are_answered_each_to_its_own_asker(bridge: Bridge, client: Callable[[], Client]) -> None:
    first, second = client(), client()
    first.say(encode(Hello()), encode(Ask(5, "read", 10)))
    asked(bridge)
    second.say(encode(Hello()), encode(Ask(5, "statuses", 10)))
    read, statuses = asked(bridge, 2)
    assert [read.what, statuses.what] == ["read", "statuses"]
    assert 0 < read.deadline_s - time.monotonic() <= 10
    statuses.done(Answer([{"node": "a"}]))
    read.done(Answer(None, "no link"))
    assert first.hear() == Reply(5, None, "no link")
    assert second.hear() == Reply(5, [{"node": "a"}])


def test_program_that_follows_nobody_asks_each_fleets_bridge(tmp_path: Path) -> None:
    document = tmp_path / "cache.json"
    assert fleets_of(document) == []
    locks = [tmp_path / f".cache.json.bridge-{number}.lock" for number in (1, 2, 3)]
    for lock in locks:
        lock.touch(mode=0o600)
    one, two = (Bridge(SocketAddress(lock)) for lock in locks[:2])
    one.listener.answer, two.listener.answer = Answer(False), Answer(None, "no link")
    try:
        assert [fleet.may_discover(10) for fleet in fleets_of(document)] == [False, True, True]
        with pytest.raises(BrokerUnreachable, match="no link"):
            fleets_of(document)[1].statuses(10)
        assert [each.what for each in two.listener.questions] == ["lease", "statuses"]
    finally:
        one.server.close()
        two.server.close()


def test_answer_for_a_departed_follower_disturbs_nobody(bridge: Bridge, client: Callable[[], Client]) -> None:
    bridge.server.tell(FIRST)
    leaver = client()
    leaver.say(encode(Hello()), encode(Ask(1, "read", 10)))
    (question,) = asked(bridge)
    leaver.socket.close()
    bridge.counts("followers", 0)
    question.done(Answer({"late": True}))
    other = client()
    other.say(encode(Hello()))
    assert other.hear() == FIRST


def test_too_many_questions_of_follower_are_answered_busy(bridge: Bridge, client: Callable[[], Client]) -> None:
    follower = client()
    follower.say(encode(Hello()), *(encode(Ask(n, "read", 10)) for n in range(limits.HOST_QUESTIONS_EACH + 1)))
    reply = follower.hear()
    assert reply.number == limits.HOST_QUESTIONS_EACH
    assert "too many questions" in reply.error
    for question in asked(bridge, limits.HOST_QUESTIONS_EACH):
        question.done(Answer(1))
    assert sorted(follower.hear().number for _ in range(limits.HOST_QUESTIONS_EACH)) == list(
        range(limits.HOST_QUESTIONS_EACH)
    )
    follower.say(encode(Ask(99, "read", 10)))
    asked(bridge, limits.HOST_QUESTIONS_EACH + 1)[-1].done(Answer(2))
    assert follower.hear() == Reply(99, 2)


def test_document_at_its_cap_passes_whole(bridge: Bridge, client: Callable[[], Client]) -> None:
    follower = client()
    follower.say(encode(Hello()), *(encode(Ask(n, "read", 60)) for n in range(3)))
    large, too_large, unspeakable = asked(bridge, 3)
    large.done(Answer("x" * limits.DOCUMENT_BYTES))
    assert len(follower.hear().value) == limits.DOCUMENT_BYTES
    too_large.done(Answer("x" * limits.HOST_ANSWER_BYTES))
    assert "fit" in follower.hear().error
    unspeakable.done(Answer({"a": float("nan")}))
    assert "cannot be sent" in follower.hear().error


def test_large_answers_that_nobody_reads_are_bounded_together(
    bridge: Bridge, client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOST_BUFFER_BYTES", 2_500_000)
    follower = client()
    follower.say(encode(Hello()), *(encode(Ask(n, "read", 60)) for n in range(4)))
    for question in asked(bridge, 4):
        question.done(Answer("x" * 1_000_000))
    wait_until(lambda: not any(each.open_questions for each in bridge.server._followers.values()), what="answers")
    assert bridge.server._waiting_bytes() < 2_500_000
    assert [bool(follower.hear().error) for _ in range(4)] == [False, False, True, True]


# --- a follower's end -------------------------------------------------------------------------------


class FileWatch:
    """Stands for the watch on the file."""

    def __init__(self, owner: Watcher) -> None:
        self._owner = owner
        owner.watching += 1

    def close(self) -> None:
        self._owner.watching -= 1


class Watcher:
    """A follower and what came of it."""

    def __init__(self, address: SocketAddress, admission: Admission = ANYBODY_LIKE_ME) -> None:
        self.registry = Registry()
        self.changes = 0
        self.watching = 0
        self.reports: list[tuple[Reason, str]] = []
        self.follower = Follower(
            address,
            admission,
            changed=self._changed,
            watch_file=lambda: FileWatch(self),
            report=lambda reason, message: self.reports.append((reason, message)),
            registry=self.registry,
        )
        self.follower.start()

    def _changed(self) -> None:
        self.changes += 1

    def hears(self, state: State | None) -> None:
        wait_until(lambda: self.follower.state == state, what=f"{state}")


@pytest.fixture
def watcher(address: SocketAddress) -> Iterator[Watcher]:
    made = Watcher(address)
    yield made
    made.follower.close()
    assert made.watching == 0


def test_follower_watches_no_file_beside_its_bridge(bridge: Bridge, watcher: Watcher) -> None:
    bridge.server.tell(FIRST)
    watcher.hears(FIRST)
    assert (watcher.watching, watcher.changes) == (0, 1)
    bridge.server.tell(SECOND)
    watcher.hears(SECOND)
    wait_until(lambda: watcher.changes == 2, what="the change")
    assert watcher.registry.flat()["notices_received"] == 2


def test_beats_that_say_nothing_new_wake_no_chart(
    bridge: Bridge, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge.server.tell(FIRST)
    watcher.hears(FIRST)
    monkeypatch.setattr(limits, "HOST_BEAT_S", 0.01)
    bridge.server.tell(FIRST._replace(broker="another, version and document are the same"))
    wait_until(lambda: watcher.follower.state != FIRST, what="the other broker")
    assert watcher.changes == 1


def test_file_is_watched_only_without_a_bridge(address: SocketAddress, watcher: Watcher) -> None:
    wait_until(lambda: watcher.watching == 1, what="the watch on the file")
    assert watcher.follower.no_socket
    bridge = Bridge(address)
    bridge.server.tell(FIRST)
    watcher.hears(FIRST)
    assert watcher.watching == 0
    seen = watcher.changes
    bridge.server.close()
    watcher.hears(None)
    wait_until(lambda: watcher.watching == 1 and watcher.changes > seen, what="the watch on the file again")
    assert watcher.reports == []


def test_file_is_looked_at_after_every_switch(address: SocketAddress, watcher: Watcher) -> None:
    met = watcher.registry.counter(BRIDGES_MET)
    for number in range(1, 4):
        bridge = Bridge(address)
        bridge.server.tell(FIRST)
        wait_until(lambda number=number: met.value == number, what="the switch")  # type: ignore[misc]
        watcher.hears(FIRST)
        before = watcher.changes
        assert before >= number
        bridge.server.close()
        watcher.hears(None)


def test_stopped_bridge_is_told_once_and_heard_again(address: SocketAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOST_ANSWER_S", 0.2)
    listening = address.listen(0o600, os.getegid())
    listening.setblocking(True)
    watcher = Watcher(address)
    connection, _ = listening.accept()
    with listening, connection:
        for _ in range(2):
            connection.sendall(encode(FIRST))
            watcher.hears(FIRST)
            assert watcher.watching == 0
            seen = watcher.changes
            wait_until(lambda: watcher.watching == 1, what="falling back to the file")
            watcher.hears(None)
            assert watcher.changes > seen - 1
    assert [reason for reason, _ in watcher.reports] == [Reason.BRIDGE]
    assert "does not answer" in watcher.reports[0][1]
    watcher.follower.close()


def test_silent_bridge_is_noticed(address: SocketAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOST_ANSWER_S", 0.1)
    with address.listen(0o600, os.getegid()):
        watcher = Watcher(address)
        wait_until(lambda: watcher.watching == 1 and watcher.reports, what="falling back to the file")
        watcher.follower.close()


@pytest.mark.parametrize("bad", [b"\xff" * 100, framed(b"nonsense"), encode(Hello()), encode(Full())])
def test_broken_bridge_is_left_alone_for_a_while(address: SocketAddress, bad: bytes) -> None:
    listening = address.listen(0o600, os.getegid())
    listening.setblocking(True)
    watcher = Watcher(address)
    connection, _ = listening.accept()
    with listening, connection:
        connection.sendall(bad)
        wait_until(lambda: watcher.watching == 1 and watcher.reports, what="falling back to the file")
        connection.settimeout(10)
        while connection.recv(4096):
            pass
        listening.settimeout(1.0)
        with pytest.raises(TimeoutError):
            listening.accept()
    watcher.follower.close()


def test_follower_does_not_speak_to_another_user(address: SocketAddress, bridge: Bridge) -> None:
    bridge.server.tell(FIRST)
    watcher = Watcher(address, SOMEBODY_ELSE)
    wait_until(lambda: watcher.reports, what="the complaint")
    assert "another user" in watcher.reports[0][1]
    assert (watcher.follower.state, watcher.watching) == (None, 1)
    watcher.follower.close()


def test_file_that_cannot_be_watched_is_tried_again(address: SocketAddress) -> None:
    attempts: list[int] = []

    def watch_file() -> FileWatch:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError("too many open files")
        return FileWatch(watcher)

    watcher = Watcher(address)
    watcher.follower._watch_file = watch_file
    wait_until(lambda: watcher.watching == 1, what="the third attempt")
    watcher.follower.close()


def test_mistake_about_one_follower_costs_only_that_follower(bridge: Bridge, client: Callable[[], Client]) -> None:
    bridge.listener.asked = never  # type: ignore[method-assign]
    bridge.server.tell(FIRST)
    asker, other = client(), client()
    asker.say(encode(Hello()), encode(Ask(1, "read", 1)))
    assert asker.is_hung_up_on()
    other.say(encode(Hello()))
    assert other.hear() == FIRST


def test_a_follower_that_wrote_has_the_bridge_look(bridge: Bridge, watcher: Watcher) -> None:
    bridge.server.tell(FIRST)
    watcher.hears(FIRST)
    watcher.follower.look(FIRST.version)
    watcher.follower.look("mine")
    wait_until(lambda: bridge.listener.looks == ["mine"], what="the look")


def test_open_question_of_dead_bridge_is_asked_again(address: SocketAddress, watcher: Watcher) -> None:
    answers: list[Answer] = []
    bridge = Bridge(address)
    bridge.server.tell(FIRST)
    watcher.hears(FIRST)
    watcher.follower.ask(Question("read", time.monotonic() + 60, answers.append))
    asked(bridge)
    bridge.server.close()
    successor = Bridge(address)
    (question,) = asked(successor)
    question.done(Answer({"a": 1}))
    wait_until(lambda: answers == [Answer({"a": 1}, "")], what="the answer")
    assert watcher.follower.close() == []
    successor.server.close()


def test_question_is_asked_once_a_bridge(address: SocketAddress, watcher: Watcher, bridge: Bridge) -> None:
    bridge.server.tell(FIRST)
    watcher.hears(FIRST)
    watcher.follower.ask(Question("read", time.monotonic() + 0.05, never))
    watcher.follower.ask(Question("statuses", time.monotonic() + 60, never))
    read, _ = asked(bridge, 2)
    wait_until(lambda: time.monotonic() > read.deadline_s + 0.05, what="the deadline")
    read.done(Answer(None))
    bridge.server.tell(SECOND)
    watcher.hears(SECOND)
    assert [question.what for question in bridge.listener.questions] == ["read", "statuses"]
    assert [question.what for question in watcher.follower.close()] == ["statuses"]


def test_follower_ends_at_once_whatever_it_awaits(address: SocketAddress) -> None:
    threads, descriptors = NewThreads(), NewDescriptors()
    with address.listen(0o600, os.getegid()):
        for _ in range(20):
            Watcher(address).follower.close()
    for _ in range(20):
        Watcher(address).follower.close()
    assert (threads.names(), descriptors.links()) == ([], [])


# --- fork ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def forked_child() -> Iterator[None]:
    """A child that lives on with a copy of every descriptor, for as long as the block runs."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(told, 1)
        os._exit(0)
    os.close(told)
    try:
        yield
    finally:
        os.close(tell)
        os.waitpid(child, 0)


def test_forked_child_keeps_no_lock_and_no_connections(
    tmp_path: Path, address: SocketAddress, client: Callable[[], Client]
) -> None:
    def open_file(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    lock = BridgeLock(tmp_path / "lock", lambda: None, open_file)
    assert lock.start()
    bridge = Bridge(address)
    bridge.server.tell(FIRST)
    outsider = client()
    outsider.say(encode(Hello()))
    assert outsider.hear() == FIRST
    with forked_child():
        bridge.server.tell(SECOND)
        assert outsider.hear() == SECOND
        bridge.server.close()
        lock.close()
        assert outsider.hear() is None
        successor = BridgeLock(tmp_path / "lock", lambda: None, open_file)
        # the child may still be about to close what it got
        successor.start()
        wait_until(lambda: successor.held, what="the lock")
        successor.close()
