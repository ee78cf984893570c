"""`miros-cache-net view`, looked at with a real browser."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from miros_cache_net import limits
from miros_cache_net.testing import Fleet, Host, RabbitServer, free_port
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import run, start

#: A page asks once a second, and a silent node counts as gone after five.
AMPLE_MS = 60_000
BROWSERS = ("chromium", "google-chrome")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, "no browser: script/bootstrap --tests installs chromium"
    with sync_playwright() as driver:
        rights = [] if os.geteuid() else ["--no-sandbox"]  # chromium's sandbox does not work for root
        browser = driver.chromium.launch(executable_path=program, args=rights)
        yield browser.new_page()
        browser.close()


@contextlib.contextmanager
def viewing(directory: Path, *arguments: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`view` as a process on a free port; its URL."""
    with start(directory, "view", "--port", "0", *arguments, **environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://"), process.stderr and process.stderr.read()
        try:
            yield line.split()[0], process
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


def keys_in(directory: Path) -> str:
    keys = directory / "keys"
    keys.touch(mode=0o600)
    keys.write_bytes(generate_key() + b"\n")
    return str(keys)


def settings_of(host: Host) -> dict[str, str]:
    """What another process needs to see the host's fleet."""
    return {name: text for name, text in host.environment().items() if name.startswith("MIROS_CACHE_")}


# --- the fleet, in a browser ----------------------------------------------------------------------------


def test_page_follows_a_fleet_through_its_life(page: Page, fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    hosts = fleet(3, kind="process")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    status = hosts[0].status()
    file = tmp_path / str(status["document"])
    settings = {**settings_of(hosts[0]), "MIROS_CACHE_FILE": str(file)}
    with viewing(tmp_path, **settings) as (url, _):
        page.goto(url)
        expect(page.locator(".node.well")).to_have_count(3, timeout=AMPLE_MS)
        expect(page.locator('#picture [data-state="in_sync"]')).to_have_class("node state leaf lit", timeout=AMPLE_MS)

        hosts[1].write({"note": "<b>hello</b><script>alert(1)</script>"})
        told = page.locator("#contents tr", has_text="note")
        expect(told).to_contain_text("<b>hello</b><script>", timeout=AMPLE_MS)
        expect(page.locator("#contents b, #contents script")).to_have_count(0)
        expect(page.locator("#write-words")).to_contain_text("2 of 2 others have it", timeout=AMPLE_MS)

        hosts[2].kill()
        gone = page.locator(".node.gone")
        expect(gone).to_contain_text("has ended, hangs, or is cut off", timeout=AMPLE_MS)
        expect(page.locator("#news")).to_contain_text("gone")
        expect(page.locator(".node.well")).to_have_count(2)

        page.get_by_role("button", name=file.name, exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.locator('#picture [data-state="file_access_waiting"].lit')).to_have_count(1, timeout=AMPLE_MS)
        expect(page.locator("#where")).to_contain_text("from file_write by write_successful")
        page.locator("#filter").fill("file_write file_access_waiting")
        expect(page.locator("#changes tr").first).to_contain_text("write_successful")
    expect(page.locator("#link")).to_contain_text("no answer from miros-cache-net view", timeout=AMPLE_MS)
    assert errors == []


def test_page_outlives_a_restart_of_the_broker(page: Page, tmp_path: Path) -> None:
    settings = {"MIROS_CACHE_KEYS_FILE": keys_in(tmp_path), "MIROS_CACHE_NODE_NAME": "alone"}
    with contextlib.ExitStack() as stack:
        rabbit = stack.enter_context(RabbitServer())
        settings["MIROS_CACHE_AMQP_URL"] = rabbit.url
        url, _ = stack.enter_context(viewing(tmp_path, **settings))
        node = stack.enter_context(start(tmp_path, "node", **settings))
        stack.callback(node.kill)
        page.goto(url)
        expect(page.locator(".node.well")).to_contain_text("alone-", timeout=AMPLE_MS)
        expect(page.locator("#changes")).to_contain_text("joined", timeout=AMPLE_MS)
        rabbit.stop()
        expect(page.locator("#link")).to_contain_text("does not answer", timeout=AMPLE_MS)
        expect(page.locator(".node.waiting")).to_have_count(1)
        rabbit.start()
        expect(page.locator("#link")).to_have_text("live", timeout=AMPLE_MS)
        expect(page.locator(".node.well")).to_have_count(1, timeout=AMPLE_MS)
        where = ("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]), "")
        status, text, _ = asked(where, "/metrics")
        assert status == 200 and re.search(r'^miros_cache_connected\{node="alone-\w+"\} 1\.0$', text, re.MULTILINE)
        assert asked(where, "/healthz")[:2] == (200, "alive\n")
        # the fault can be found afterwards: the chart lost its link, and joined again
        page.locator("#filter").fill("link_down in_sync unlinked")
        expect(page.locator("#changes tr")).not_to_have_count(0, timeout=AMPLE_MS)


# --- who may look ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, str]]:
    """Address and token of a page that everybody could reach; its broker is nowhere."""
    directory = tmp_path_factory.mktemp("guarded")
    with viewing(
        directory,
        "--bind",
        "0.0.0.0",
        MIROS_CACHE_KEYS_FILE=keys_in(directory),
        MIROS_CACHE_AMQP_URL=f"amqp://127.0.0.1:{free_port()}",
    ) as (url, process):
        assert process.stdout is not None
        token = process.stdout.readline().removeprefix("token: ").strip()
        yield "127.0.0.1", int(url.rstrip("/").rpartition(":")[2]), token


def asked(
    where: tuple[str, int, str], path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(where[0], where[1], timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_metrics_without_a_broker_say_why(guarded: tuple[str, int, str]) -> None:
    status, text, _ = asked(guarded, "/metrics", Authorization=f"Bearer {guarded[2]}")
    assert status == 503 and "MIROS_CACHE_AMQP_URL" in text


@pytest.mark.parametrize("path", ["/metrics", "/events", "/charts", "/charts/CacheNode.svg", "/page.js"])
def test_without_token_nothing_is_told(guarded: tuple[str, int, str], path: str) -> None:
    assert asked(guarded, path)[0] == 401
    assert asked(guarded, path, Authorization="Bearer wrong")[0] == 401


def test_supervisor_needs_no_token(guarded: tuple[str, int, str]) -> None:
    assert asked(guarded, "/healthz")[:2] == (200, "alive\n")


def test_wrong_token_is_refused_in_words(guarded: tuple[str, int, str]) -> None:
    status, text, _ = asked(guarded, "/login", "POST", "token=%3Cb%3Ewrong")
    assert status == 401 and "That is not the token" in text and "wrong" not in text.partition("alert")[2][:60]


def test_right_token_opens_and_is_kept(guarded: tuple[str, int, str]) -> None:
    status, _, headers = asked(guarded, "/login", "POST", f"token={guarded[2]}")
    cookie = headers["set-cookie"]
    assert status == 303 and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert asked(guarded, "/charts", Cookie=cookie.partition(";")[0])[0] == 200


def test_page_is_read_only_and_framed_by_nobody(guarded: tuple[str, int, str]) -> None:
    bearer = f"Bearer {guarded[2]}"
    assert asked(guarded, "/charts", "POST", "x", Authorization=bearer)[0] == 405
    policy = asked(guarded, "/", Authorization=bearer)[2]["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_page_beyond_the_cap_is_refused(guarded: tuple[str, int, str]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(limits.VIEW_PAGES):
            stream = stack.enter_context(socket.create_connection(guarded[:2], 30))
            stream.sendall(f"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {guarded[2]}\r\n\r\n".encode())
            assert stream.recv(12) == b"HTTP/1.1 200"
        status, text, _ = asked(guarded, "/events", Authorization=f"Bearer {guarded[2]}")
    assert status == 503 and "pages are open already" in text


def test_strangers_name_for_loopback_is_refused(tmp_path: Path) -> None:
    with viewing(tmp_path, MIROS_CACHE_KEYS_FILE=keys_in(tmp_path)) as (url, _):
        where = ("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]), "")
        assert asked(where, "/charts", Host="evil.example")[0] == 403
        assert asked(where, "/charts", Host="localhost")[0] == 200


# --- what cannot be done --------------------------------------------------------------------------------


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(tmp_path, "view", "--port", str(port), MIROS_CACHE_KEYS_FILE=keys_in(tmp_path))
    assert ended.returncode == 3 and f"port {port}" in ended.stderr and "--port" in ended.stderr


def test_chart_that_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    with viewing(
        tmp_path, MIROS_CACHE_KEYS_FILE=keys_in(tmp_path), PATH=str(programs)
    ) as (url, _):  # fmt: skip
        where = ("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]), "")
        status, text, _ = asked(where, "/charts/LanChart.svg")
        assert status == 422 and "`dot` is not installed" in text and "stateDiagram-v2" in text
        assert asked(where, "/charts/NoSuchChart.svg")[0] == 404
