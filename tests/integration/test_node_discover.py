"""`node --discover` on every host of a fleet: one discovers for all, and when it is killed another goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import read_cache
from miros_cache_net.testing import RabbitServer, free_port, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import clean_environment, error_line, run
from tests.fake_servers import FakeServer, Visit
from tests.integration.test_cli_fleet import started

NAMES = ("alpha", "beta", "gamma")
DEFAULT = ".miros_rabbitmq_cache.json"
AMPLE_S = 60.0


THREE_LINES = """\
from miros_cache_net import CacheNode, LanChart
with CacheNode() as node, LanChart(node) as lan:
    print(lan.peers().hosts)
"""


class Nodes:
    """The same command on three hosts: a directory each, and what each has said."""

    def __init__(self, directory: Path, stack: ExitStack, *arguments: str, **settings: str) -> None:
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[str]] = {}
        for name in NAMES:
            environment = {"MIROS_CACHE_NODE_NAME": name, **settings}
            self.processes[name] = started(stack, directory / name, "node", "--json", *arguments, **environment)

    def said(self, name: str, what: str) -> list[dict[str, Any]]:
        """Every line of that kind; the one being written is left for later."""
        text = (self.directory / name / "out").read_text()
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line["what"] == what]

    def who_said(self, what: str) -> set[str]:
        return {name for name in NAMES if self.said(name, what)}

    def addresses(self, name: str) -> list[str]:
        return list(read_cache(self.directory / name / DEFAULT).dict.get("addresses", ()))

    def discoverer(self, name: str) -> str:
        """Of the document on that host."""
        return read_cache(self.directory / name / DEFAULT).origin.partition("-")[0]

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def wait_until_all_have(self, addresses: list[str]) -> None:
        for name in self.processes:
            wait_until(
                lambda name=name: self.addresses(name) == addresses, timeout_s=AMPLE_S, what=f"{name} to have it"
            )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def place(rabbit_url: str, request: pytest.FixtureRequest) -> dict[str, str]:
    return {
        "MIROS_CACHE_AMQP_URL": rabbit_url,
        "MIROS_CACHE_KEYS": generate_key().decode(),
        "MIROS_CACHE_SCOPE": request.node.name[:100],
    }


def test_one_discovers_for_all(
    place: dict[str, str], stack: ExitStack, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    peer, dead = f"127.0.0.1:{rabbit_server.port}", f"127.0.0.1:{free_port()}"
    nodes = Nodes(tmp_path, stack, f"--discover={peer},{dead}", **place)
    nodes.wait_until_all_have([peer])
    for name in NAMES:
        wait_until(lambda name=name: nodes.said(name, "peers"), what=f"{name} to tell its peers")
        assert [line["hosts"] for line in nodes.said(name, "peers")] == [[peer]]
    (first,) = nodes.who_said("discovering")
    scouted = {line["ip_address"]: line["reason"] for line in nodes.said(first, "scouted")}
    assert scouted == {peer: "ok", dead: "refused"}
    assert nodes.who_said("scouted") == nodes.who_said("discovered") == {first}
    assert {nodes.discoverer(name) for name in NAMES} == {first}
    assert [(tmp_path / name / "err").read_text() for name in NAMES] == ["", "", ""]


def test_another_goes_on_when_the_discoverer_is_killed(
    place: dict[str, str], stack: ExitStack, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    peer = f"127.0.0.1:{rabbit_server.port}"
    nodes = Nodes(tmp_path, stack, "--discover", peer, MIROS_CACHE_TIME_OUT_IN_MINUTES="0.1", **place)
    nodes.wait_until_all_have([peer])
    assert run(tmp_path / "beta", "update", 'note="hello"', **place).returncode == 0
    for name in NAMES:
        document = tmp_path / name / DEFAULT
        wait_until(lambda document=document: read_cache(document).dict.get("note"), what=f"{name} to have the note")
    killed = ""
    while True:
        wait_until(
            lambda: {nodes.discoverer(name) for name in nodes.processes} <= set(nodes.processes),
            timeout_s=AMPLE_S,
            what=f"another than {killed!r} to discover",
        )
        (last, *others) = nodes.processes
        assert nodes.addresses(last) == [peer]
        if not others:
            break
        killed = next(name for name in nodes.processes if name == nodes.discoverer(last))
        nodes.kill(killed)
    assert read_cache(tmp_path / last / DEFAULT).dict["note"] == "hello"


def test_node_killed_during_discovery_leaves_it_to_another(
    place: dict[str, str], stack: ExitStack, tmp_path: Path
) -> None:
    go_on = threading.Event()
    stack.callback(go_on.set)

    def slow(_visit: Visit) -> None:
        go_on.wait(AMPLE_S)

    with FakeServer(slow) as server:
        peer = f"127.0.0.1:{server.port}"
        nodes = Nodes(tmp_path, stack, f"--discover={peer}", MIROS_CACHE_SCOUT_TIMEOUT_S=str(AMPLE_S), **place)
        wait_until(lambda: server.visits, timeout_s=AMPLE_S, what="one to scout")
        wait_until(lambda: nodes.who_said("discovering"), what="one to say so")
        (first,) = nodes.who_said("discovering")
        nodes.kill(first)
        wait_until(lambda: nodes.who_said("discovering") - {first}, timeout_s=AMPLE_S, what="another to discover")
        go_on.set()
    nodes.wait_until_all_have([])


def test_host_added_to_the_hosts_file_joins_document(
    place: dict[str, str], stack: ExitStack, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    file = tmp_path / "hosts.json"
    peers = [f"127.0.0.1:{rabbit_server.port}", f"localhost:{rabbit_server.port}"]
    file.write_text(json.dumps({"hosts": peers[:1]}))
    nodes = Nodes(tmp_path, stack, "--hosts-file", str(file), **place)
    nodes.wait_until_all_have(peers[:1])
    file.write_text(json.dumps({"hosts": peers}))
    nodes.wait_until_all_have(peers)


def test_program_has_nodes_peers_in_three_lines(
    place: dict[str, str], stack: ExitStack, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    peer = f"127.0.0.1:{rabbit_server.port}"
    settings = {**place, "MIROS_CACHE_DISCOVER": peer}
    Nodes(tmp_path, stack, **settings)
    finished = subprocess.run(
        [sys.executable, "-c", THREE_LINES],
        cwd=tmp_path / "beta",
        env=clean_environment(tmp_path, **settings),
        capture_output=True,
        text=True,
        timeout=AMPLE_S,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, f"[{peer!r}]\n"), finished.stderr


@pytest.mark.parametrize("host", ["amqp://u:s3cr3t@alpha", "u:s3cr3t@alpha"])
def test_host_url_is_refused_without_repeating_its_password(place: dict[str, str], tmp_path: Path, host: str) -> None:
    finished = run(tmp_path, "node", f"--discover={host}", **place)
    assert finished.returncode == 2
    assert "user and password come from the settings" in error_line(finished)
    assert "s3cr3t" not in finished.stderr
