"""What `doctor` finds in the file, the clock and at the broker, and that each failure says how to mend it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, LinkListener, LinkUp, Publication
from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.cli.checks.broker_checks import check_brokers
from miros_cache_net.cli.checks.clock_checks import ClockWatch
from miros_cache_net.cli.checks.file_checks import check_file
from miros_cache_net.cli.checks.finding import FAILED, OK, SKIPPED, WARNING, Finding, failed, failed_by, warning
from miros_cache_net.cli.checks.mends import MENDS
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.errors import (
    BrokerError,
    BrokerUnreachable,
    CacheNetError,
    ExchangeConflict,
    LoginRefused,
    MessageRefused,
    QueueConflict,
    TLSRefused,
    VhostRefused,
)
from miros_cache_net.fleet import health
from miros_cache_net.fleet.place import Place
from miros_cache_net.settings import Settings
from miros_cache_net.store.sidecar import sidecar_path
from miros_cache_net.testing import ManualClock
from miros_cache_net.testing.small_disk import SmallDisk

#: What `health` checks.
CHECKS = {"link", "canary", "in step", "understood", "clock", "caps", "key", "file", "disk"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


def outcomes(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.outcome for finding in findings}


def detail(findings: list[Finding], check: str) -> str:
    return next(finding.detail for finding in findings if finding.check == check)


def fix(findings: list[Finding], check: str) -> str:
    return next(finding.fix for finding in findings if finding.check == check)


def test_whatever_is_wrong_has_a_fix() -> None:
    assert all(MENDS.values())
    assert {name for name in vars(health).values() if isinstance(name, str) and name in CHECKS} == CHECKS <= set(MENDS)
    for say in (failed, warning):
        assert say("anything", "is wrong").fix == MENDS["trouble"]
    assert failed_by("disk", CacheNetError("no space", mend="buy some")).fix == "buy some"


# --- the file -------------------------------------------------------------------------------------


def test_missing_file_is_fine_and_not_made(path: Path) -> None:
    findings = check_file(path)
    assert outcomes(findings) == {"directory": OK, "file": OK, "disk": OK}
    assert "the first write makes it" in detail(findings, "file")
    assert list(path.parent.iterdir()) == []


def test_sound_file_is_checked_and_stays_unchanged(path: Path) -> None:
    with Cache(path) as cache:
        cache.write({"a": 1, "time_out_in_minutes": 30})
    before = path.read_bytes(), path.stat().st_ino, path.stat().st_mode
    assert outcomes(check_file(path)) == {"directory": OK, "file": OK, "disk": OK, "lock": OK, "stamps": OK}
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mode) == before


def test_a_file_in_use_is_no_failure(path: Path) -> None:
    seen: list[Finding] = []

    def look(contents: dict[str, Any]) -> dict[str, Any]:
        seen.extend(check_file(path))
        return contents

    with Cache(path) as cache:
        cache.write({"a": 1})
        cache.modify(look)
    assert outcomes(seen)["lock"] == OK
    assert "in use" in detail(seen, "lock")


def test_file_left_unwritable_by_stranger_is_a_warning(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0o444)
    findings = check_file(path)
    assert outcomes(findings)["lock"] == WARNING
    assert "`chmod u+w` it" in fix(findings, "lock")
    assert path.stat().st_mode & 0o222 == 0


def test_remains_of_killed_writer_are_left_to_next(path: Path) -> None:
    with Cache(path) as cache:
        cache.write({"a": 1})
        pid = os.fork()
        if pid == 0:
            Cache(path).modify(lambda _contents: os._exit(0))  # type: ignore[func-returns-value]
        os.waitpid(pid, 0)
        marked = Path(sidecar_path(path)).read_bytes()
        assert outcomes(check_file(path))["lock"] == OK
        assert b'"holder": ""' not in marked
        assert b'"holder": ""' not in Path(sidecar_path(path)).read_bytes()
        assert cache.update({"b": 2}).dict == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "said"), [("{broken", "no document in it: not JSON"), ("[1]", "a document must be a JSON object")]
)
def test_malformed_file_is_a_failure(text: str, said: str, path: Path) -> None:
    path.write_text(text)
    os.utime(path, (1e9, 1e9))
    findings = check_file(path)
    assert outcomes(findings)["file"] == FAILED
    assert said in detail(findings, "file")
    assert path.read_text() == text


def test_unusable_directory_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    mends = {"absent": "create it", "file": "correct MIROS_CACHE_FILE", "sticky": "use another directory"}
    for directory, mend in mends.items():
        findings = check_file(tmp_path / directory / "cache.json")
        assert outcomes(findings) == {"directory": FAILED, "file": SKIPPED}
        assert mend in fix(findings, "directory")


def test_lock_file_that_excludes_the_group_warns(path: Path) -> None:
    with Cache(path) as cache:
        cache.write({"a": 1})
    assert "sharing" not in outcomes(check_file(path))
    path.parent.chmod(0o770)
    findings = check_file(path)
    assert outcomes(findings)["sharing"] == WARNING
    assert "`chmod g+rw` it" in fix(findings, "sharing")


def test_documents_set_aside_are_a_warning(path: Path) -> None:
    path.write_text("{}")
    path.with_name("cache.json.corrupt-1").touch()
    findings = check_file(path)
    assert outcomes(findings)["set aside"] == WARNING
    assert "1 file that held no document" in detail(findings, "set aside")
    for number in range(limits.SET_ASIDE_FILES):
        path.with_name(f"cache.json.corrupt-{number}").touch()
    findings = check_file(path)
    assert outcomes(findings)["set aside"] == WARNING
    assert "all but the first and the newest are deleted" in detail(findings, "set aside")


def test_stamps_from_beyond_this_clock_are_a_warning(path: Path) -> None:
    ahead = ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms() + 10 * limits.CLOCK_AHEAD_MS)
    with Cache(path, clock=ahead) as cache:
        cache.write({"a": 1})
    findings = check_file(path)
    assert outcomes(findings)["stamps"] == WARNING
    assert "they count" in detail(findings, "stamps")
    assert f"set this clock, or that of {read_cache(path).origin}" in fix(findings, "stamps")


def test_document_that_never_expires_is_a_warning(path: Path) -> None:
    with Cache(path) as cache:
        cache.write({"a": 1})
        assert outcomes(check_file(path))["expiry"] == WARNING
        assert "time_out_in_minutes" in fix(check_file(path), "expiry")
        cache.update({"time_out_in_minutes": 0})
        assert "expiry" not in outcomes(check_file(path))


@pytest.mark.parametrize("name", ["cache.json", ".cache.json.lock", ".cache.json.bridge-0.lock"])
def test_file_open_to_strangers_is_a_failure(name: str, path: Path) -> None:
    with Cache(path) as cache:
        cache.write({"a": 1})
    path.parent.chmod(0o755)
    file = path.with_name(name)
    file.touch()
    file.chmod(0o640)
    assert "modes" not in outcomes(check_file(path))
    file.chmod(0o646)
    assert name in detail(check_file(path), "modes") and fix(check_file(path), "modes") == "run `chmod o-rwx` on it"


def test_full_disk_is_a_failure(small_disk: SmallDisk, tmp_path: Path) -> None:
    path = tmp_path / "disk" / "cache.json"
    with Cache(path) as cache:
        cache.write({"a": 1})
    assert outcomes(check_file(path))["disk"] == WARNING
    small_disk.fill()
    findings = check_file(path)
    assert outcomes(findings)["disk"] == FAILED
    assert fix(findings, "disk").startswith("free some space")


# --- the clock ------------------------------------------------------------------------------------


def test_an_ordinary_clock_is_fine() -> None:
    clock = ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms())
    watch = ClockWatch(clock)
    clock.advance(17.0)
    assert watch.finding().outcome == OK


def test_clock_from_before_this_program_is_a_failure() -> None:
    finding = ClockWatch(ManualClock(wall_ms=86_400_000)).finding()
    assert finding.outcome == FAILED
    assert "1970-01-02" in finding.detail
    assert "set the clock" in finding.fix


@pytest.mark.parametrize("jump_ms", [-2_000, 2_000])
def test_clock_set_during_the_look_is_a_warning(jump_ms: int) -> None:
    clock = ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms())
    watch = ClockWatch(clock)
    clock.jump_wall(jump_ms)
    finding = watch.finding()
    assert finding.outcome == WARNING
    assert f"{jump_ms / 1000:+.1f} s" in finding.detail


# --- the broker -----------------------------------------------------------------------------------


class Scripted:
    """A link that ends at once as it is told; it takes messages, but delivers none longer than `most_bytes`."""

    def __init__(self, outcome: LinkUp | BrokerError, most_bytes: int = 10**9, alarm: str = "") -> None:
        self.outcome, self.most_bytes, self.alarm = outcome, most_bytes, alarm
        self.stopped = False
        self.sent: list[Publication] = []

    def start(self, listener: LinkListener) -> None:
        self.listener = listener
        if isinstance(self.outcome, LinkUp):
            listener.link_up(self.outcome)
        else:
            listener.link_down(self.outcome)

    def publish(self, publication: Publication) -> None:
        self.sent.append(publication)
        if len(publication.body) <= self.most_bytes:
            self.listener.delivered(Delivery(publication.body, publication.queue))
        elif publication.refused is not None:
            publication.refused(MessageRefused("too large", mend="store less"))

    def serve_requests(self, serve: bool) -> None:
        raise AssertionError("doctor serves nothing")

    def stop(self) -> None:
        self.stopped = True


def examined(outcome: LinkUp | BrokerError, path: Path, **how: Any) -> list[Finding]:
    link = Scripted(outcome, **how)
    findings = check_brokers(Settings(amqp_urls="amqp://alpha.lab"), path, lambda _settings, _place: link)
    assert link.stopped
    return findings


def test_standing_link_means_every_step_is_fine(path: Path) -> None:
    findings = examined(LinkUp("amq.gen-1", 3, "RabbitMQ 3"), path)
    assert outcomes(findings) == dict.fromkeys(("broker", "login", "vhost", "exchange", "fleet", "messages"), OK)
    assert "3 ready to answer" in detail(findings, "fleet")


def test_broker_is_tried_with_a_message_of_the_documents_size(path: Path) -> None:
    path.write_bytes(bytes(30_000))
    findings = examined(LinkUp("amq.gen-1", 3, "RabbitMQ 3"), path)
    assert "a message of 41024 bytes" in detail(findings, "messages")
    findings = examined(LinkUp("amq.gen-1", 3, "RabbitMQ 3"), path, most_bytes=40_000)
    assert (outcomes(findings)["messages"], fix(findings, "messages")) == (FAILED, "store less")


def test_alarm_at_the_broker_is_a_failure(path: Path) -> None:
    findings = examined(LinkUp("amq.gen-1", 3, "RabbitMQ 3"), path, alarm="low on disk")
    assert outcomes(findings)["messages"] == FAILED
    assert "accepts no messages: low on disk" in detail(findings, "messages")


def test_link_without_request_queue_stands_and_says_so(path: Path) -> None:
    findings = examined(LinkUp("amq.gen-1", None, "RabbitMQ 3"), path)
    assert outcomes(findings)["fleet"] == OK
    assert "the request queue is unavailable now" in detail(findings, "fleet")


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (BrokerUnreachable("x"), "broker"),
        (TLSRefused("x"), "broker"),
        (LoginRefused("x"), "login"),
        (VhostRefused("x"), "vhost"),
        (ExchangeConflict("x"), "exchange"),
        (QueueConflict("x"), "exchange"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_fails_its_step_after_earlier_steps(error: BrokerError, step: str, path: Path) -> None:
    findings = examined(error, path)
    steps = [finding.check for finding in findings]
    assert steps == ["broker", "login", "vhost", "exchange"]
    at = steps.index(step)
    assert [finding.outcome for finding in findings] == [OK] * at + [FAILED] + [SKIPPED] * (3 - at)
    assert findings[at].detail == "x"


def test_every_broker_of_the_settings_is_tried_alone(path: Path) -> None:
    places: list[tuple[list[str], Place]] = []

    def factory(settings: Settings, place: Place) -> Scripted:
        places.append(([broker.host for broker in settings.amqp_urls], place))
        return Scripted(BrokerUnreachable(settings.amqp_urls[0].host))

    findings = check_brokers(Settings(amqp_urls="amqp://alpha,amqp://beta", document="d"), path, factory)
    assert [hosts for hosts, _ in places] == [["alpha"], ["beta"]]
    assert {place for _, place in places} == {Place("miros.cache.exchange", "fleet", "d")}
    assert [finding.detail for finding in findings if finding.outcome == FAILED] == ["alpha", "beta"]
