"""A node's numbers over HTTP, and what is made of them: alerts, the dashboard, the page in the docs."""

from __future__ import annotations

import http.client
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from miros_cache_net import limits
from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.errors import SettingsError
from miros_cache_net.fleet.place import document_topology
from miros_cache_net.metrics.collector import GAUGES, PREFIX, NodeCollector, metric_name
from miros_cache_net.metrics.server import MetricsServer, parsed_address
from miros_cache_net.node import CacheNode
from miros_cache_net.node_status import status_from
from miros_cache_net.observe.families import FAMILIES
from miros_cache_net.observe.registry import PROCESS, Registry
from miros_cache_net.testing import Fleet, wait_until
from tests.statechart.test_fork import in_child
from tests.threads import NewThreads

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
HOSTILE = 'evil\x1b[31m\u202e"} 1\nfake_metric 7\\'


@contextmanager
def measured(hosts: Fleet, name: str = "measured", **arguments: Any) -> Iterator[CacheNode]:
    assert isinstance(hosts.broker, MemoryBroker)
    broker = hosts.broker
    node = CacheNode(
        settings=hosts.settings(name),
        metrics="127.0.0.1:0",
        link_factory=lambda _, place: MemoryLink(broker, document_topology(place)),
        **arguments,
    )
    try:
        yield node
    finally:
        node.stop()


def asked(node: CacheNode, path: str, method: str = "GET") -> tuple[int, str]:
    assert node.metrics is not None
    connection = http.client.HTTPConnection("127.0.0.1", node.metrics.port, timeout=30)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def series(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What a scrape brings: by name, the labels and the number."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def scraped(fleet: Callable[..., Fleet]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """A real scrape of a node that has received, refused and reported something."""
    hosts = fleet(1)
    with measured(hosts) as node:
        assert node.wait_connected(30)
        hosts[0].write({"a": 1, "time_out_in_minutes": 30})
        wait_until(lambda: node.status()["lag_s"] is not None, what="the change to be stored")
        node.registry.counter(next(each for each in FAMILIES if each.name == "refused"), "not_authentic").add()
        node.registry.counter(next(each for each in FAMILIES if each.name == "reported"), "key").add()
        status, text = asked(node, "/metrics")
        assert status == 200
        return series(text)


def test_scrape_brings_what_the_status_says(scraped: Any) -> None:
    assert {PREFIX + gauge.name for gauge in GAUGES} <= set(scraped)
    assert scraped["miros_cache_connected"] == [({}, 1.0)]
    assert ({"state": "in step"}, 1.0) in scraped["miros_cache_node_state"]
    assert {labels["check"] for labels, _ in scraped["miros_cache_check_ok"]} > {"link", "disk", "clock"}
    assert 0 <= scraped["miros_cache_write_lag_seconds"][0][1] < 60
    assert 1700 < scraped["miros_cache_document_expires_seconds"][0][1] <= 1800
    assert ({"kind": "CACHE"}, 1.0) in scraped["miros_cache_received_total"]
    unlabelled = {metric_name(family) for family in FAMILIES if not family.labels}
    assert unlabelled <= set(scraped)


def test_alerts_and_dashboard_ask_for_what_is_there(scraped: Any) -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 20
    for expression in expressions:
        for name, selectors in re.findall(r"\b(miros_cache_\w+)(?:\{([^}]*)\})?", expression):
            assert name in scraped, expression
            known = {"instance", "job", *(label for labels, _ in scraped[name] for label in labels)}
            assert set(re.findall(r"(\w+)\s*[=!]~?", selectors)) <= known, expression
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            known = {"instance", *(label for points in scraped.values() for labels, _ in points for label in labels)}
            assert {label.strip() for label in grouped.split(",")} <= known, expression


def test_alerts_fire_when_and_only_when_they_should() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    assert all(rule["annotations"]["summary"] and rule["annotations"]["fix"] for rule in rules)
    ran = subprocess.run(
        ["promtool", "test", "rules", "alerts-test.yml"], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_page_is_what_the_code_says() -> None:
    tool = runpy.run_path(str(ROOT / "docs" / "tools" / "metrics.py"))
    assert tool["PAGE"].read_text("utf-8") == tool["page"]()


def test_ready_follows_the_fleet_and_health_the_node(fleet: Callable[..., Fleet]) -> None:
    hosts = fleet(1)
    with measured(hosts) as node:
        wait_until(lambda: asked(node, "/readyz") == (200, "ready\n"), what="it to be ready")
        assert asked(node, "/healthz") == (200, "alive\n")
        assert isinstance(hosts.broker, MemoryBroker)
        hosts.broker.crash()
        wait_until(lambda: asked(node, "/readyz")[0] == 503, what="it to be ready no more")
        assert asked(node, "/readyz")[1] == "not ready: the broker crashed: restart it\n"
        assert asked(node, "/healthz")[0] == 200
        hosts.broker.restart()


def test_other_pages_and_methods_are_refused(fleet: Callable[..., Fleet]) -> None:
    with measured(fleet()) as node:
        assert asked(node, "/")[0] == 404 and "/metrics, /healthz, /readyz" in asked(node, "/")[1]
        assert asked(node, "/metrics", "POST")[0] == 405


def test_node_that_ends_gives_its_port_back(fleet: Callable[..., Fleet]) -> None:
    threads = NewThreads()
    with measured(fleet()) as node:
        assert node.metrics is not None
        port = node.metrics.port
        asked(node, "/metrics")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    wait_until(lambda: not threads.names(), what="its threads to end")


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_metrics_stay_on_this_machine_unless_told(address: str, parsed: tuple[str, int]) -> None:
    assert parsed_address(address) == parsed


@pytest.mark.parametrize("address", ["", "127.0.0.1", "a:b", "127.0.0.1:70000", "127.0.0.1:-1", "127.0.0.1:²"])
def test_address_that_is_none_is_one_clear_error(address: str) -> None:
    with pytest.raises(SettingsError, match=r"is not an address; write it as 127\.0\.0\.1:9464"):
        parsed_address(address)


def test_port_that_is_taken_is_one_clear_error(fleet: Callable[..., Fleet]) -> None:
    hosts = fleet()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        threads = NewThreads()
        with pytest.raises(SettingsError, match="the port is in use; choose another address with --metrics"):
            CacheNode(
                settings=hosts.settings("alpha"),
                metrics=str(port),
                link_factory=lambda _, place: MemoryLink(MemoryBroker(), document_topology(place)),
            )
        wait_until(lambda: not threads.names(), what="the node's threads to end")


def test_missing_library_is_named_with_its_extra(fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith(("prometheus_client", "miros_cache_net.metrics"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SettingsError, match=r"pip install 'miros-cache-net\[metrics\]'"), measured(fleet()):
        pass


def test_hostile_names_stay_inside_their_labels() -> None:
    status = status_from({"node": HOSTILE, "host": HOSTILE, "scope": HOSTILE, "checks": [{"name": HOSTILE}]})
    server = MetricsServer("127.0.0.1:0", lambda: status, Registry(), lambda: "")
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/metrics")
        found = series(connection.getresponse().read().decode())
        connection.close()
    finally:
        server.close()
    assert "fake_metric" not in found
    assert found["miros_cache_node_info"][0][0]["node"] == HOSTILE


def test_numbers_of_node_and_process_are_added() -> None:
    writes = next(family for family in FAMILIES if family.name == "file_writes")
    own, before = Registry(), PROCESS.counter(writes).value
    own.counter(writes).add(3)
    PROCESS.counter(writes).add(4)
    found = {metric.name: metric for metric in NodeCollector(lambda: status_from({}), own).collect()}
    assert found["miros_cache_file_writes"].samples[0].value == before + 7


def test_silent_clients_take_no_more_than_their_share(fleet: Callable[..., Fleet]) -> None:
    threads = NewThreads()
    with measured(fleet()) as node, ExitStack() as stack:
        assert node.metrics is not None
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", node.metrics.port), 30))
            for _ in range(3 * limits.METRICS_CLIENTS)
        ]
        hung_up = [each for each in silent[limits.METRICS_CLIENTS :] if each.recv(1) == b""]
        assert len(hung_up) == 2 * limits.METRICS_CLIENTS
        assert len(threads.names("process_request_thread")) <= limits.METRICS_CLIENTS
        wait_until(lambda: silent[0].recv(1) == b"", what="the silent ones to be let go")
        wait_until(lambda: asked(node, "/metrics")[0] == 200, what="an honest one to be served")


def test_forked_child_stops_its_node_at_once(fleet: Callable[..., Fleet]) -> None:
    with measured(fleet()) as node:
        in_child(node.stop)
        assert asked(node, "/metrics")[0] == 200


def test_forked_child_does_not_keep_the_port() -> None:
    server = MetricsServer("127.0.0.1:0", lambda: status_from({}), Registry(), lambda: "")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"forked")
        signal.pause()
    try:
        os.read(reading, 6)
        server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 30)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_no_resolver_is_asked_for_the_hosts_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_name: str = "") -> str:
        raise AssertionError("a resolver can take many seconds")

    monkeypatch.setattr(socket, "getfqdn", ask)
    MetricsServer("127.0.0.1:0", lambda: status_from({}), Registry(), lambda: "").close()


def test_a_denied_thread_keeps_no_slot(fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def deny(thread: threading.Thread) -> None:
        if "process_request_thread" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    with measured(fleet()) as node:
        assert node.metrics is not None
        with monkeypatch.context() as denied:
            denied.setattr(threading.Thread, "start", deny)
            for _ in range(limits.METRICS_CLIENTS):
                with socket.create_connection(("127.0.0.1", node.metrics.port), 30) as client:
                    assert client.recv(1) == b""
        assert asked(node, "/metrics")[0] == 200


def test_a_client_that_trickles_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METRICS_CLIENT_S", 0.5)
    server = MetricsServer("127.0.0.1:0", lambda: status_from({}), Registry(), lambda: "")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setblocking(False)

        def hung_up() -> bool:
            try:
                client.send(b"G")
                return client.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        try:
            wait_until(hung_up, what="the client to be let go")
        finally:
            server.close()
