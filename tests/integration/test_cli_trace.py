"""`trace` as users run it: from a third place, on a real RabbitMQ, through faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from miros_cache_net.cache import read_cache
from miros_cache_net.testing import wait_until
from tests.cli_command import COMMAND, clean_environment, run

DEFAULT = ".miros_rabbitmq_cache.json"
#: A program of a user: a chart of its own beside a node, which follows the host's bridge.
PROGRAM = """
import time
from miros_cache_net import CacheNode
from miros_cache_net.events import event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import State

class Lamp(Chart):
    STATES = (State("off", PRESS="on"), State("on", PRESS="off"))
    def _off_PRESS(self, e): return self.trans("on")
    def _on_PRESS(self, e): return self.trans("off")

with CacheNode() as node, Lamp("lamp \\x1b[31m\\u202e") as lamp:
    lamp.start_at()
    node.wait_connected()
    print("ready", flush=True)
    while True:
        lamp.post_fifo(event("PRESS", {"password": "s3cr3t", "n": 7}))
        time.sleep(0.2)
"""


def started(stack: ExitStack, directory: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    directory.mkdir(exist_ok=True)
    out = stack.enter_context((directory / f"out-{command[-1][:20].strip()}").open("w"))
    process = subprocess.Popen(
        command, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True,
        env=clean_environment(directory, **environment),
    )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def node(stack: ExitStack, directory: Path, **variables: str) -> subprocess.Popen[str]:
    name = {"MIROS_CACHE_NODE_NAME": directory.name}
    process = started(stack, directory, *COMMAND, "node", **variables, **name)
    wait_until(lambda: "in step" in (directory / "out-node").read_text(), what=f"{directory.name} in step")
    return process


def traced(directory: Path, *arguments: str, **variables: str) -> list[dict[str, Any]]:
    directory.mkdir(exist_ok=True)
    finished = run(directory, "trace", "--json", *arguments, **variables)
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def first(steps: list[dict[str, Any]], **wanted: str) -> int:
    return next(n for n, step in enumerate(steps) if all(step[key] == value for key, value in wanted.items()))


def test_write_goes_through_two_hosts_in_one_order(
    variables: dict[str, str], processes: ExitStack, tmp_path: Path
) -> None:
    alpha, beta = tmp_path / "alpha", tmp_path / "beta"
    for directory in (alpha, beta):
        node(processes, directory, **variables)
    assert run(alpha, "write", stdin='{"a": 1}', **variables).returncode == 0
    wait_until(lambda: read_cache(beta / DEFAULT).dict == {"a": 1}, what="beta has it")
    steps = traced(tmp_path / "third", "--for", "0s", **variables)
    moments = [step["moment"] for step in steps]
    assert moments == sorted(moments)
    stored = first(steps, host="beta", chart=DEFAULT, event="file_write", to="file_write")
    told = [n for n, step in enumerate(steps[:stored]) if step["host"] == "alpha" and step["event"] == "CACHE"]
    assert told, "alpha's node has heard of the write before beta's file chart stores it"
    assert first(steps, host="beta", chart=DEFAULT, event="write_successful") > stored


def test_fault_is_found_afterwards(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    alpha, beta = tmp_path / "alpha", tmp_path / "beta"
    dies = node(processes, alpha, **variables)
    node(processes, beta, **variables)
    assert run(alpha, "write", stdin='{"a": 1}', **variables).returncode == 0
    wait_until(lambda: read_cache(beta / DEFAULT).dict == {"a": 1}, what="beta has it")
    dies.send_signal(signal.SIGKILL)
    dies.wait()
    steps = traced(tmp_path / "third", "--for", "0s", **variables)
    assert {step["host"] for step in steps} == {"beta"}
    assert first(steps, chart=DEFAULT, event="file_write", to="file_write") > first(steps, event="start_at")


def test_charts_of_users_and_followers_are_seen(
    variables: dict[str, str], processes: ExitStack, tmp_path: Path
) -> None:
    alpha = tmp_path / "alpha"
    bridge = node(processes, alpha, **variables)
    program = started(processes, alpha, sys.executable, "-c", PROGRAM, **variables, MIROS_CACHE_NODE_NAME="alpha")
    wait_until(lambda: any("ready" in each.read_text() for each in alpha.glob("out-*")), what="the program")
    steps = traced(tmp_path / "third", "--for", "4s", "--payloads", "--spy", **variables)
    lamp = [step for step in steps if step["chart"].startswith("lamp")]
    assert {step["process"] for step in lamp} == {program.pid} and bridge.pid in {step["process"] for step in steps}
    assert {"off", "on"} <= {step["to"] for step in lamp}
    assert any("'n': 7" in step["payload"] for step in lamp)
    assert any("PRESS:off" in step["spy"] for step in lamp)
    assert "s3cr3t" not in json.dumps(steps)
    chosen = traced(tmp_path / "third", "--for", "0s", "--chart", DEFAULT, "alpha", **variables)
    assert {step["chart"] for step in chosen} == {DEFAULT}


def test_hostile_names_cannot_steer_a_terminal(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    alpha = tmp_path / "alpha"
    started(processes, alpha, sys.executable, "-c", PROGRAM, **variables, MIROS_CACHE_NODE_NAME="alpha")
    wait_until(lambda: any("ready" in each.read_text() for each in alpha.glob("out-*")), what="the program")
    third = tmp_path / "third"
    third.mkdir()
    for form in ((), ("--mermaid",), ("--json",)):
        shown = run(third, "trace", "--for", "0s", *form, **variables)
        assert shown.returncode == 0, shown.stderr
        assert "lamp" in shown.stdout
        assert not set(shown.stdout) & {"\x1b", "\u202e"}


def test_watch_ends_with_its_killed_watcher(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    node(processes, tmp_path / "alpha", **variables)

    def watchers() -> int:
        status = run(tmp_path, "status", "--json", **variables)
        return int(json.loads(status.stdout)["nodes"][0]["counters"]["trace_watches"])

    assert watchers() == 0
    watcher = started(processes, tmp_path / "third", *COMMAND, "trace", **variables)
    wait_until(lambda: watchers() == 1, what="the watch")
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()
    # something has to be sent before the broker can say that nobody takes it
    assert run(tmp_path / "alpha", "write", stdin='{"a": 1}', **variables).returncode == 0
    wait_until(lambda: watchers() == 0, what="the end of the watch")


def test_silence_and_absent_nodes_are_said(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    alone = run(tmp_path, "trace", "--for", "0s", **variables)
    assert (alone.returncode, alone.stdout) == (1, "") and "no host answered" in alone.stderr
    node(processes, tmp_path / "alpha", **variables)

    def alpha_answers() -> bool:
        some = run(tmp_path, "trace", "--for", "0s", "alpha", "nobody", **variables)
        assert some.returncode == 1
        return "no answer from nobody" in some.stderr

    # a slow host may not have answered when the command gives up
    wait_until(alpha_answers, 60, "alpha to answer in time")


def test_interrupt_prints_what_still_waits(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    node(processes, tmp_path / "alpha", **variables)
    third = tmp_path / "third"
    watcher = started(processes, third, *COMMAND, "trace", **variables)
    wait_until(lambda: "start_at" in (third / "out-trace").read_text(), what="the past")
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(30) == 130
    assert os.path.getsize(third / "out-trace") > 0
