"""What `doctor` finds in the file, the clock and at the broker, and that each failure says how to mend it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.link import LinkListener, LinkUp, Place, Publication
from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.cli.health.broker_checks import check_brokers
from miros_cache_net.cli.health.clock_checks import ClockWatch
from miros_cache_net.cli.health.file_checks import check_file
from miros_cache_net.cli.health.finding import FAILED, OK, SKIPPED, WARNING, Finding
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.errors import (
    BrokerError,
    BrokerUnreachable,
    ExchangeConflict,
    LoginRefused,
    QueueConflict,
    TLSRefused,
    VhostRefused,
)
from miros_cache_net.settings import Settings
from miros_cache_net.store.sidecar import sidecar_path
from miros_cache_net.testing import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


def outcomes(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.outcome for finding in findings}


def detail(findings: list[Finding], check: str) -> str:
    return next(finding.detail for finding in findings if finding.check == check)


# --- the file -------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_yet_is_fine_and_nothing_is_made(path: Path) -> None:
    findings = check_file(path)
    assert outcomes(findings) == {"directory": OK, "file": OK}
    assert "the first write makes it" in detail(findings, "file")
    assert list(path.parent.iterdir()) == []


def test_a_sound_file_is_read_and_locked_and_stays_as_it_was(path: Path) -> None:
    with Cache(path) as cache:
        cache.write({"a": 1})
    before = path.read_bytes(), path.stat().st_ino, path.stat().st_mode
    assert outcomes(check_file(path)) == {"directory": OK, "file": OK, "lock": OK, "stamps": OK}
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


def test_a_file_that_a_stranger_left_un_writable_is_a_warning_with_two_ways_out(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0o444)
    findings = check_file(path)
    assert outcomes(findings)["lock"] == WARNING
    assert "`chmod u+w` it" in detail(findings, "lock")
    assert path.stat().st_mode & 0o222 == 0


def test_what_a_killed_writer_left_behind_is_left_to_the_next_writer(path: Path) -> None:
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
    ("text", "said"), [("{broken", "no document in it: not JSON"), ("[1]", "a document is a JSON object")]
)
def test_a_file_that_holds_no_document_is_a_failure(text: str, said: str, path: Path) -> None:
    path.write_text(text)
    os.utime(path, (1e9, 1e9))
    findings = check_file(path)
    assert outcomes(findings)["file"] == FAILED
    assert said in detail(findings, "file")
    assert path.read_text() == text


def test_a_directory_that_is_missing_sticky_or_no_directory_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    for directory, said in (("absent", "create it"), ("file", "no directory"), ("sticky", "in one of its own")):
        findings = check_file(tmp_path / directory / "cache.json")
        assert outcomes(findings) == {"directory": FAILED, "file": SKIPPED}
        assert said in detail(findings, "directory")


def test_documents_that_were_set_aside_are_a_warning_until_no_more_fit(path: Path) -> None:
    path.write_text("{}")
    path.with_name("cache.json.corrupt-1").touch()
    findings = check_file(path)
    assert outcomes(findings)["set aside"] == WARNING
    assert "1 file that held no document" in detail(findings, "set aside")
    for number in range(limits.SET_ASIDE_FILES):
        path.with_name(f"cache.json.corrupt-{number}").touch()
    assert outcomes(check_file(path))["set aside"] == FAILED


def test_stamps_from_beyond_this_clock_are_a_failure_that_names_both_clocks(path: Path) -> None:
    ahead = ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms() + 10 * limits.CLOCK_AHEAD_MS)
    with Cache(path, clock=ahead) as cache:
        cache.write({"a": 1})
    findings = check_file(path)
    assert outcomes(findings)["stamps"] == FAILED
    assert f"set this clock, or that of {read_cache(path).origin}" in detail(findings, "stamps")


# --- the clock ------------------------------------------------------------------------------------


def test_an_ordinary_clock_is_fine() -> None:
    clock = ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms())
    watch = ClockWatch(clock)
    clock.advance(17.0)
    assert watch.finding().outcome == OK


def test_a_clock_from_before_this_program_is_a_failure() -> None:
    finding = ClockWatch(ManualClock(wall_ms=86_400_000)).finding()
    assert finding.outcome == FAILED
    assert "1970-01-02" in finding.detail
    assert "set the clock" in finding.detail


@pytest.mark.parametrize("jump_ms", [-2_000, 2_000])
def test_a_clock_that_is_set_while_we_look_is_a_warning(jump_ms: int) -> None:
    clock = ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms())
    watch = ClockWatch(clock)
    clock.jump_wall(jump_ms)
    finding = watch.finding()
    assert finding.outcome == WARNING
    assert f"{jump_ms / 1000:+.1f} s" in finding.detail


# --- the broker -----------------------------------------------------------------------------------


class Scripted:
    """A link that ends at once as it is told."""

    def __init__(self, outcome: LinkUp | BrokerError) -> None:
        self.outcome = outcome
        self.stopped = False

    def start(self, listener: LinkListener) -> None:
        if isinstance(self.outcome, LinkUp):
            listener.link_up(self.outcome)
        else:
            listener.link_down(self.outcome)

    def publish(self, publication: Publication) -> None:
        raise AssertionError("doctor publishes nothing")

    def serve_requests(self, serve: bool) -> None:
        raise AssertionError("doctor serves nothing")

    def stop(self) -> None:
        self.stopped = True


def examined(outcome: LinkUp | BrokerError, path: Path) -> list[Finding]:
    link = Scripted(outcome)
    findings = check_brokers(Settings(amqp_urls="amqp://alpha.lab"), path, lambda _settings, _place: link)
    assert link.stopped
    return findings


def test_a_link_that_stands_means_that_every_step_is_fine(path: Path) -> None:
    findings = examined(LinkUp("amq.gen-1", 3, "RabbitMQ 3"), path)
    assert outcomes(findings) == dict.fromkeys(("broker", "login", "vhost", "exchange", "fleet"), OK)
    assert "3 ready to answer" in detail(findings, "fleet")


def test_a_link_without_the_request_queue_stands_and_says_so(path: Path) -> None:
    findings = examined(LinkUp("amq.gen-1", None, "RabbitMQ 3"), path)
    assert outcomes(findings)["fleet"] == OK
    assert "the request queue cannot be had now" in detail(findings, "fleet")


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
def test_an_error_fails_its_step_after_the_steps_before_it(error: BrokerError, step: str, path: Path) -> None:
    findings = examined(error, path)
    steps = [finding.check for finding in findings]
    assert steps == ["broker", "login", "vhost", "exchange"]
    at = steps.index(step)
    assert [finding.outcome for finding in findings] == [OK] * at + [FAILED] + [SKIPPED] * (3 - at)
    assert findings[at].detail == "x"


def test_every_broker_of_the_settings_is_tried_by_itself(path: Path) -> None:
    places: list[tuple[list[str], Place]] = []

    def factory(settings: Settings, place: Place) -> Scripted:
        places.append(([broker.host for broker in settings.amqp_urls], place))
        return Scripted(BrokerUnreachable(settings.amqp_urls[0].host))

    findings = check_brokers(Settings(amqp_urls="amqp://alpha,amqp://beta", document="d"), path, factory)
    assert [hosts for hosts, _ in places] == [["alpha"], ["beta"]]
    assert {place for _, place in places} == {Place("miros.cache.exchange", "fleet", "d")}
    assert [finding.detail for finding in findings if finding.outcome == FAILED] == ["alpha", "beta"]
