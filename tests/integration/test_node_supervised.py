"""`node` under systemd, played by a socket: it says that it is ready, how it stands, that it lives, that it ends."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cli.service_unit import unit
from miros_cache_net.cli.supervisor import Supervisor, look
from miros_cache_net.testing import Fleet, Host, free_port, wait_until
from tests.cli_command import AMPLE_S, COMMAND

MakeFleet = Callable[..., Fleet]


class Manager:
    """Listens as systemd does."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)

    def hear(self, wanted: str, timeout_s: float = AMPLE_S) -> list[dict[str, str]]:
        """What it is told until a variable `wanted` comes, that one included; TimeoutError if none does."""
        heard: list[dict[str, str]] = []
        self._socket.settimeout(timeout_s)
        while not heard or wanted not in heard[-1]:
            lines = self._socket.recv(4096).decode().splitlines()
            heard.append(dict(line.split("=", 1) for line in lines))
        return heard

    def forget(self) -> None:
        """What has been told until now."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"{tmp_path}/notify"
    manager = Manager(name if request.param == "a path" else f"@{name}")
    yield manager
    manager.close()


@pytest.fixture
def host(fleet: MakeFleet) -> Host:
    return fleet().add("alpha", start=False, kind="process", amqp_urls=f"amqp://127.0.0.1:{free_port()}")


def start(host: Host, manager: Manager, **more: str) -> subprocess.Popen[bytes]:
    environment = {**host.environment(), **manager.environment, **more}
    return host.popen([*COMMAND, "node"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_it_is_ready_without_a_broker_and_says_why(host: Host, manager: Manager) -> None:
    with start(host, manager) as process:
        try:
            assert manager.hear("READY")[-1]["READY"] == "1"
            (told,) = manager.hear("STATUS")
            assert told["STATUS"].startswith("unhealthy: ")
            assert "WATCHDOG" not in told, "nobody has asked for it"
            process.send_signal(signal.SIGTERM)
            assert manager.hear("STOPPING")[-1]["STOPPING"] == "1"
            assert process.wait(AMPLE_S) == 0
        finally:
            process.kill()


def test_the_watchdog_hears_of_it_until_it_hangs(host: Host, manager: Manager) -> None:
    with start(host, manager, WATCHDOG_USEC="300000") as process:
        try:
            manager.hear("READY")
            for _ in range(3):
                manager.hear("WATCHDOG")
            process.send_signal(signal.SIGSTOP)
            manager.forget()
            with pytest.raises(TimeoutError):
                manager.hear("WATCHDOG", timeout_s=1.0)
            process.send_signal(signal.SIGCONT)
            manager.hear("WATCHDOG")
        finally:
            process.kill()


def test_a_watchdog_of_another_process_is_not_fed(host: Host, manager: Manager) -> None:
    with start(host, manager, WATCHDOG_USEC="300000", WATCHDOG_PID="1") as process:
        try:
            manager.hear("READY")
            assert "WATCHDOG" not in manager.hear("STATUS")[-1]
        finally:
            process.kill()


def test_a_socket_that_nobody_has_ends_no_node(host: Host, tmp_path: Path) -> None:
    environment = {**host.environment(), "NOTIFY_SOCKET": f"{tmp_path}/none"}
    with host.popen([*COMMAND, "node"], env=environment, stdout=subprocess.PIPE) as process:
        try:
            says(process, b"keeps ")
            host.update({"a": 1})
            says(process, b"discovered ")
            process.terminate()
            assert process.wait(AMPLE_S) == 0
        finally:
            process.kill()


def says(process: subprocess.Popen[bytes], words: bytes) -> None:
    """Read its lines until one has these words."""
    assert process.stdout is not None
    assert any(words in line for line in process.stdout)


def test_a_bridge_that_does_not_answer_counts_as_dead(fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    node = fleet(1)[0].node
    assert look(node) == ("in step with the fleet", True)
    monkeypatch.setattr(node._health, "answer", lambda *_: None)
    status, alive = look(node)
    assert status.startswith("unhealthy: ") and not alive


def test_a_look_at_a_bridge_reads_no_file(fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    node = fleet(1)[0].node
    looking, document = threading.current_thread(), node.file_chart.document

    def read() -> Any:
        assert threading.current_thread() is not looking, "a disk that hangs would hang the watchdog"
        return document()

    monkeypatch.setattr(node.file_chart, "document", read)
    assert look(node) == ("in step with the fleet", True)


def test_a_look_that_fails_ends_no_watchdog(
    fleet: MakeFleet, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_node: object) -> tuple[str, bool]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for name, value in {**manager.environment, "WATCHDOG_USEC": "300000"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("miros_cache_net.cli.supervisor.look", fail)
    with Supervisor().watching(fleet(1)[0].node):
        for _ in range(3):
            manager.hear("WATCHDOG")


def test_what_only_time_mends_is_no_reason_to_restart(fleet: MakeFleet) -> None:
    host = fleet(2)[0]
    host.cut()
    wait_until(lambda: not host.connected, timeout_s=AMPLE_S)
    status, alive = look(host.node)
    assert status.startswith("unhealthy: ") and alive


def test_the_unit_denies_no_system_call_that_it_makes(host: Host, tmp_path: Path) -> None:
    denied = set(re.findall(r"@\w+", "".join(re.findall(r"SystemCallFilter=~(.*)", unit("x")))))
    (allowed,) = re.findall(r"SystemCallFilter=(@\S+)", unit("x"))
    calls = tmp_path / "calls"
    with host.popen(
        # as a grandchild, so that signals reach the node
        ["strace", "--daemonize", "--follow-forks", "--output", str(calls), *COMMAND, "node"],
        env=host.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            says(process, b"keeps ")
            host.update({"a": 1})
            says(process, b"discovered ")
        finally:
            process.terminate()
            assert process.wait(AMPLE_S) == 0
    wait_until(lambda: f"{process.pid} +++ exited" in re.sub(" +", " ", calls.read_text()), timeout_s=AMPLE_S)
    made = set(re.findall(r"^\d+ +(\w+)\(", calls.read_text(), re.MULTILINE))
    assert len(made) > 40
    assert made - system_calls(allowed) == set()
    assert made & set().union(*map(system_calls, denied)) == set()


def system_calls(group: str) -> set[str]:
    """Those of a group, as systemd knows it."""
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"^ +(@?[\w-]+)$", shown, re.MULTILINE)
    return set().union(*(system_calls(name) if name.startswith("@") else {name} for name in names))
