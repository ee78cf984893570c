"""The private RabbitMQ, the hosts in network namespaces and the small helpers, as their users see them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pika.exceptions
import psutil
import pytest

from miros_cache_net.testing import (
    ManualClock,
    Network,
    NetworkHost,
    NetworkUnavailable,
    RabbitFailed,
    RabbitNotInstalled,
    RabbitServer,
    free_port,
    rabbit_files,
    wait_until,
)


def connect(url: str) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(url))


def processes_in(directory: Path) -> set[int]:
    """Every process of the machine that has a server's directory as its home."""
    found = set()
    for process in psutil.process_iter():
        try:
            home = process.environ().get("HOME", "")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if home.startswith(str(directory)):
            found.add(process.pid)
    return found


@pytest.fixture
def own_server() -> Iterator[RabbitServer]:
    with RabbitServer() as server:
        yield server


# --- the session's server: cheap, so one test a fact -------------------------------------------------


def test_the_private_server_answers_amqp_at_its_url(rabbit_url: str) -> None:
    with connect(rabbit_url) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"hello")
        wait_until(lambda: channel.basic_get(queue, auto_ack=True)[2] == b"hello", what="the message")


def test_the_private_server_listens_on_loopback_only(rabbit_server: RabbitServer) -> None:
    rabbit_server.start()
    addresses = {
        listener.laddr.ip
        for pid in processes_in(rabbit_server.directory)
        for listener in psutil.Process(pid).net_connections("tcp")
        if listener.status == psutil.CONN_LISTEN
    }
    assert addresses and addresses <= {"127.0.0.1", "::1"}


def test_users_and_virtual_hosts_can_be_added(rabbit_server: RabbitServer) -> None:
    rabbit_server.start()
    with connect(rabbit_server.add_user("testing_user", "testing_word")) as connection:
        assert connection.is_open
    with connect(rabbit_server.add_vhost("testing_vhost")) as connection:
        assert connection.is_open
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect(rabbit_server.url_for("testing_user", "another_word"))


def test_new_password_is_in_no_process_listing(rabbit_server: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    rabbit_server.start()
    commands: list[str] = []
    real_run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **o: commands.append(repr(command)) or real_run(command, **o)
    )
    rabbit_server.add_user("listing_user", "listing_word")
    assert any("listing_user" in command for command in commands)
    assert not any("listing_word" in command for command in commands)


def test_connections_are_counted(rabbit_server: RabbitServer) -> None:
    rabbit_server.start()
    wait_until(lambda: rabbit_server.connection_count() == 0, what="those of earlier tests to be gone")
    with connect(rabbit_server.url), connect(rabbit_server.url):
        assert rabbit_server.connection_count() == 2
    wait_until(lambda: rabbit_server.connection_count() == 0, what="the connections to be gone")


def test_paused_server_is_silent_until_resumed(rabbit_server: RabbitServer) -> None:
    rabbit_server.start()
    rabbit_server.pause()
    try:
        with socket.create_connection((rabbit_server.address, rabbit_server.port), 5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            rabbit_server.resume()
            connection.settimeout(10)
            assert connection.recv(1) == b"\x01"
    finally:
        rabbit_server.resume()


def test_rabbitmqctl_failing_says_what_rabbitmqctl_said(rabbit_server: RabbitServer) -> None:
    rabbit_server.start()
    with pytest.raises(RabbitFailed, match="no_such_vhost"):
        rabbit_server.ctl("delete_vhost", "no_such_vhost")


# --- a server's life -------------------------------------------------------------------------------


def test_killed_server_comes_back_on_the_same_port(own_server: RabbitServer) -> None:
    with connect(own_server.url) as connection:
        connection.channel().exchange_declare("kept", "topic", durable=True)
        connection.channel().exchange_declare("lost", "topic", durable=False)
        # what RabbitMQ has just confirmed it may write a moment later
        own_server.ctl("eval", "mnesia:sync_log().")
        port = own_server.port
        own_server.kill()
        assert not own_server.running
        with pytest.raises(pika.exceptions.AMQPError):
            connection.process_data_events(5)
            connection.channel()
    own_server.start()
    assert own_server.port == port
    with connect(own_server.url) as connection:
        connection.channel().exchange_declare("kept", "topic", passive=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
            connection.channel().exchange_declare("lost", "topic", passive=True)


def test_closed_server_leaves_no_process_and_no_directory() -> None:
    with RabbitServer() as server:
        assert len(processes_in(server.directory)) >= 2, "the server and its port mapper should be seen while they run"
        server.stop()
        assert processes_in(server.directory) == set()
        assert server.directory.is_dir()
    assert processes_in(server.directory) == set()
    assert not server.directory.exists()


def test_killed_test_process_leaves_no_server_behind() -> None:
    program = textwrap.dedent("""
        import sys
        from miros_cache_net.testing import RabbitServer
        server = RabbitServer().start()
        print(server.directory, flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        assert len(processes_in(directory)) >= 2
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: processes_in(directory) == set(), what="the orphaned server to be killed")
    wait_until(lambda: not directory.exists(), what="its directory to be removed")


def test_server_started_in_a_thread_outlives_it(rabbit_server: RabbitServer) -> None:
    rabbit_server.kill()
    thread = threading.Thread(target=rabbit_server.start)
    thread.start()
    thread.join()
    with connect(rabbit_server.url) as connection:
        assert connection.is_open


def test_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(RabbitFailed, match=r"(?s)rabbitmq-server ended.*no_such_setting"),
        RabbitServer(config="no_such_setting = 1"),
    ):
        pass


def test_machine_without_rabbitmq_is_told_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(rabbit_files.PROGRAMS_VARIABLE, raising=False)
    monkeypatch.setattr(rabbit_files, "PROGRAM_PLACES", ("/nonexistent/rabbitmq",))
    with pytest.raises(RabbitNotInstalled, match="script/bootstrap, or apt-get install rabbitmq-server"):
        RabbitServer()


def test_another_rabbitmq_is_taken_from_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = rabbit_files.find_programs()
    monkeypatch.setenv(rabbit_files.PROGRAMS_VARIABLE, str(tmp_path))
    with pytest.raises(RabbitNotInstalled, match=f"TEST_RABBITMQ={tmp_path}: no rabbitmq-server"):
        RabbitServer()
    for name, program in (
        ("rabbitmq-server", "echo theirs >&2; exit 3"),
        ("rabbitmqctl", f'exec {own}/rabbitmqctl "$@"'),
        ("epmd", 'exec epmd "$@"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(RabbitFailed, match=r"(?s)ended with code 3.*theirs"), RabbitServer():
        pass


def test_forked_child_does_not_take_the_server_along(rabbit_server: RabbitServer) -> None:
    rabbit_server.start()
    child = os.fork()
    if child == 0:
        rabbit_server.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with connect(rabbit_server.url) as connection:
        assert connection.is_open
    assert rabbit_server.directory.is_dir()


# --- hosts -----------------------------------------------------------------------------------------

LISTEN = "import socket; s = socket.create_server(('', 5000)); print('ready', flush=True); s.accept()[0].sendall(b'hi')"
DIAL = "import socket, sys; print(socket.create_connection((sys.argv[1], 5000), 5).recv(2).decode())"


def listen_on(host: NetworkHost) -> subprocess.Popen[str]:
    process = host.popen([sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_hosts_and_tester_reach_each_other_over_tcp(
    network_namespaces: Callable[[int], tuple[NetworkHost, ...]],
) -> None:
    alpha, beta, gamma = network_namespaces(3)
    with listen_on(alpha) as server:
        assert beta.run([sys.executable, "-c", DIAL, alpha.address]).stdout == "hi\n"
        assert server.wait(10) == 0
    with listen_on(gamma), socket.create_connection((gamma.address, 5000), 5) as connection:
        assert connection.recv(2) == b"hi"
    with socket.create_server((alpha.tester_address, 5000)) as tester:
        tester.settimeout(10)
        with alpha.popen([sys.executable, "-c", DIAL, alpha.tester_address], stdout=subprocess.DEVNULL):
            connection, (address, _) = tester.accept()
            connection.close()
            assert address == alpha.address


def test_unplugged_host_hears_nothing_until_plugged_in(
    network_namespaces: Callable[[int], tuple[NetworkHost, ...]],
) -> None:
    alpha, beta = network_namespaces(2)
    listener = listen_on(alpha)
    alpha.unplug()
    dial = DIAL.replace("5)", "0.5)")
    assert beta.run([sys.executable, "-c", dial, alpha.address], check=False).returncode != 0
    alpha.plug_in()
    assert wait_until(
        lambda: beta.run([sys.executable, "-c", dial, alpha.address], check=False).stdout == "hi\n", what="the cable"
    )
    with listener:
        listener.wait(10)


def test_two_networks_do_not_meet_and_leave_nothing() -> None:
    with Network(1) as (here,), Network(1) as (there,):
        assert here.address.rpartition(".")[0] != there.address.rpartition(".")[0]
        forgotten = here.popen(["sleep", "600"])
        with pytest.raises(subprocess.CalledProcessError):
            here.run([sys.executable, "-c", DIAL, there.address])
    assert forgotten.wait(10) == -signal.SIGKILL
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    interfaces = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert f"mcn{os.getpid()}x" not in namespaces + interfaces


def test_network_of_a_killed_test_process_is_removed() -> None:
    program = "import sys; from miros_cache_net.testing import Network; n = Network(1)\n"
    program += "print(n.__enter__()[0].name, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        process.kill()
        process.wait()
    listing = ["ip", "netns", "list"]
    assert name in subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    with Network(1):
        assert name not in subprocess.run(listing, capture_output=True, text=True, check=True).stdout


def test_without_root_a_network_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NetworkUnavailable, match="need root and the program `ip`"), Network(1):
        pass


# --- small helpers ---------------------------------------------------------------------------------


def test_manual_clock_stands_still_until_moved() -> None:
    clock = ManualClock(wall_ms=1_000, monotonic_s=5.0)
    assert (clock.wall_ms(), clock.monotonic_s()) == (1_000, 5.0)
    clock.advance(1.5)
    assert (clock.wall_ms(), clock.monotonic_s()) == (2_500, 6.5)
    clock.jump_wall(-2_000)
    assert (clock.wall_ms(), clock.monotonic_s()) == (500, 6.5)
    with pytest.raises(ValueError, match="does not run back"):
        clock.advance(-1)


def test_wait_until_returns_what_became_true() -> None:
    answers = iter([0, AssertionError("not yet"), ConnectionRefusedError("not yet"), 7])

    def look() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_until(look) == 7


def test_wait_until_gives_up_with_its_last_look() -> None:
    with pytest.raises(AssertionError, match=r"waited 0 s in vain for the moon; the last look gave \[\]"):
        wait_until(list, timeout_s=0, what="the moon")


def test_wait_until_passes_on_programming_errors() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0)


def test_free_port_is_free_and_no_client_port() -> None:
    port = free_port()
    assert port < 32_768
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_the_helpers_work_where_pytest_is_not_installed() -> None:
    program = """
import sys
sys.modules["pytest"] = None
from miros_cache_net.testing import RabbitServer, wait_until
import miros_cache_net.testing as testing
assert not hasattr(testing, "rabbit_server")
"""
    program = program.replace('sys.modules["pytest"] = None', "sys.meta_path.insert(0, Refuse())").replace(
        "import sys\n",
        "import sys\nclass Refuse:\n  def find_spec(self, name, *rest):\n    assert name.split('.')[0] != 'pytest'\n",
        1,
    )
    subprocess.run([sys.executable, "-c", program], check=True)
