"""``miros-cache-net demo``, run as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from miros_cache_net.testing import RabbitServer, wait_until

COMMAND = [sys.executable, "-m", "miros_cache_net", "demo"]


def environment(directory: Path, url: str) -> dict[str, str]:
    return {**os.environ, "MIROS_CACHE_AMQP_URL": url, "TMPDIR": str(directory), "HOME": str(directory)}


def leftovers(directory: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(directory):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_page_stays_up_until_interrupted(tmp_path: Path, rabbit_server: RabbitServer) -> None:
    with subprocess.Popen(
        [*COMMAND, "--view"],
        cwd=tmp_path,
        env={**environment(tmp_path, rabbit_server.url), "DISPLAY": "", "WAYLAND_DISPLAY": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        url = next(line.split()[-1] for line in demo.stdout if line.startswith("The live page: "))
        assert any("look at" in line and url in line for line in demo.stdout)
        with urlopen(f"{url}charts", timeout=30) as answer:
            assert "CacheNode" in json.load(answer)
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
    assert demo.returncode == 0 and "Where to look next" in rest
    wait_until(lambda: not leftovers(tmp_path), what="every process of the demo to be gone")


def test_one_discovers_two_reuse_and_nothing_is_left(tmp_path: Path, rabbit_server: RabbitServer) -> None:
    done = subprocess.run(
        [*COMMAND, "--json"],
        cwd=tmp_path,
        env=environment(tmp_path, rabbit_server.url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert len(facts["peers"]) == 2
    verdicts = {address.rsplit(":", 1)[0]: verdict for address, verdict in facts["verdicts"].items()}
    assert verdicts == {
        "127.0.0.11": "yes",
        "127.0.0.12": "yes",
        "127.0.0.13": "no, refused",
        "127.0.0.14": "no, silent",
        "127.0.0.15": "no, not_amqp",
    }
    assert set(facts["reuse_s"]) == {"beta", "gamma"}
    assert set(facts["spread_s"]) == {"alpha", "beta"}
    assert facts["ciphertext"].startswith("gAAAAA") and facts["messages"] > 0
    assert facts["discovery_s"] > max(facts["reuse_s"].values()) > 0
    assert 0 < facts["restart_s"] < facts["discovery_s"]
    assert facts["successor"] in ("beta", "gamma")
    assert min(facts["spread_s"].values()) > 0
    assert "through RabbitMQ, without discovering" in done.stderr
    wait_until(lambda: not leftovers(tmp_path), what="every process of the demo to be gone")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_ends_cleanly(
    tmp_path: Path, rabbit_server: RabbitServer, number: signal.Signals, code: int
) -> None:
    output = tmp_path / "output"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with open(output, "wb") as stream:
        process = subprocess.Popen(
            COMMAND, cwd=tmp_path, env=environment(temporary, rabbit_server.url), stdout=stream, stderr=stream
        )
    wait_until(lambda: "alpha starts" in output.read_text(), timeout_s=30, what="the story to begin")
    process.send_signal(number)
    assert process.wait(30) == code
    assert "Traceback" not in output.read_text()
    wait_until(lambda: not leftovers(temporary), what="every process of the demo to be gone")
    assert list(temporary.iterdir()) == []
