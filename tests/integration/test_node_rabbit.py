"""The node on real RabbitMQ, with real processes and real kills."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.testing import Fleet, Host, RabbitServer, wait_until
from tests.integration.rabbit_links import wait_for_servers

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "run-a-fleet.md"
EXAMPLE = Path(__file__).parents[2] / "examples" / "networked_statechart.py"


class Program:
    """The example as a process of its own; what it printed is in a file."""

    def __init__(self, host: Host, *arguments: str) -> None:
        self.host = host
        self._output = host.directory / "output"
        with open(self._output, "ab") as output:
            command = [sys.executable, str(EXAMPLE), "--file", str(host.settings.file), *arguments]
            self.process = host.popen(command, stdout=output, stderr=subprocess.STDOUT)

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._output.read_text().splitlines() if line.startswith("{")]

    def wait_for(self, **wanted: Any) -> dict[str, Any]:
        def seen() -> dict[str, Any] | None:
            assert self.process.poll() is None, self._output.read_text()
            return next((line for line in self.said() if wanted.items() <= line.items()), None)

        return wait_until(seen, timeout_s=30, what=f"{wanted} in {self._output.read_text()!r}")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


@pytest.fixture
def run(hosts: Fleet) -> Iterator[Any]:
    programs: list[Program] = []

    def start(name: str, *arguments: str) -> Program:
        programs.append(Program(hosts.add(name, start=False), *arguments))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


def test_write_in_one_process_arrives_in_another(run: Any) -> None:
    beta = run("beta")
    beta.wait_for(connected=True)
    alpha = run("alpha", "--write", '{"addresses": ["10.0.0.7"]}')
    arrived = beta.wait_for(contents={"addresses": ["10.0.0.7"]})
    assert arrived["from"].startswith("alpha-")
    assert not arrived["expired"]
    assert [alpha.end(), beta.end()] == [0, 0]


def test_killed_bridge_is_replaced_by_another_process(run: Any, rabbit_server: RabbitServer) -> None:
    beta = run("beta")
    beta.wait_for(connected=True)
    first = run("alpha")
    first.wait_for(connected=True)
    second = run("alpha")
    wait_until(lambda: rabbit_server.connection_count() == 4, what="those of earlier tests to be gone")
    second.host.write({"by": "a follower"})
    beta.wait_for(contents={"by": "a follower"})
    assert rabbit_server.connection_count() == 4
    first.end(signal.SIGKILL)
    second.host.write({"by": "its successor"})
    beta.wait_for(contents={"by": "its successor"})
    wait_until(lambda: rabbit_server.connection_count() == 4, what="one host's worth of connections a host")


def test_nodes_agree_after_broker_was_killed_and_started(tmp_path: Path) -> None:
    with RabbitServer() as rabbit, Fleet(tmp_path, rabbit.url, digest_interval_s=30.0) as hosts:
        alpha, beta, gamma = (hosts.add(name) for name in ("alpha", "beta", "gamma"))
        alpha.write({"n": 0})
        hosts.agree(on=lambda contents: contents == {"n": 0})
        rabbit.kill()
        alpha.update({"a": 1})
        beta.update({"b": 2})
        wait_until(lambda: not gamma.connected, what="gamma to notice")
        gamma.update({"c": 3})
        late = hosts.add("late", wait=False)
        wait_until(lambda: late.status()["trouble"], what="the late host to miss the broker")
        rabbit.restart()
        hosts.agree(on=lambda contents: contents == {"n": 0, "a": 1, "b": 2, "c": 3}, timeout_s=60)


def test_rights_of_the_how_to_are_enough(tmp_path: Path, rabbit_server: RabbitServer) -> None:
    url = rabbit_server.add_user("cache", "hunter2")
    (line,) = re.findall(r"^rabbitmqctl (set_permissions .*)$", HOW_TO.read_text(), re.MULTILINE)
    rabbit_server.ctl(*shlex.split(line))
    turns: list[bool] = []
    exchange = "miros.cache.exchange"
    with Fleet(tmp_path, url, exchange=exchange, digest_interval_s=30.0) as hosts:
        alpha = hosts.add("alpha")
        alpha.write({"n": 1})
        wait_for_servers(rabbit_server.url, alpha.node.place)
        beta = hosts.add("beta")
        hosts.agree(on=lambda contents: contents == {"n": 1})
        alpha.node.ask_turn(turns.append)
        assert beta.node.read_fleet() is not None
        assert len(beta.node.fleet_status()) == 2
        wait_until(lambda: turns, what="alpha's turn to discover")
        assert [host.status()["counters"].get("links_failed", 0) for host in (alpha, beta)] == [0, 0]
    assert turns == [True]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://guest:wrong@127.0.0.1:{port}", "refused the user name or password"),
        ("amqp://guest:guest@127.0.0.1:{port}/nowhere", "access to virtual host 'nowhere'"),
        ("amqp://guest:guest@127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_wrong_broker_setting_is_named_without_the_password(
    hosts: Fleet, rabbit_server: RabbitServer, url: str, says: str
) -> None:
    alpha = hosts.add("alpha", amqp_urls=url.format(port=rabbit_server.port), wait=False)
    trouble = wait_until(lambda: alpha.status()["trouble"], what="the trouble to be known")
    assert says in trouble
    assert "wrong" not in trouble.replace("wrong user", "")
    alpha.write({"still": "works"})
