"""`discover` as users run it: on networks of its own, and among given hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.discovery.lan_document import OLD_FILE
from miros_cache_net.discovery.old_mesh import OLD_EXCHANGE
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import NetworkHost, RabbitServer, free_port
from tests.cli_command import COMMAND, clean_environment, error_line, run, terminal
from tests.fake_servers import FakeServer, Visit, generous_rabbit
from tests.lan_peers import LanPeers

Networks = Callable[[int], tuple[NetworkHost, ...]]
DEFAULT = ".miros_rabbitmq_cache.json"


def on(host: NetworkHost, directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command on `host`."""
    environment = clean_environment(directory, MIROS_CACHE_TRUSTED_NETWORKS="auto", **settings)
    return host.run([*COMMAND, *arguments], cwd=directory, env=environment, check=False)


# --- the network ------------------------------------------------------------------------------------


def test_discover_prints_and_caches_what_it_found(network_namespaces: Networks, tmp_path: Path) -> None:
    here, there = network_namespaces(2)
    with LanPeers(there, open=[there.address]):
        first = on(here, tmp_path, "discover")
        assert first.returncode == 0, first.stderr
        assert first.stdout.split("\n")[1].split()[:3] == [there.address, "yes", "ok"]
        assert f"1 usable broker among 253 addresses; written to {tmp_path / DEFAULT}" in error_line(first)
        assert list(read_cache(tmp_path / DEFAULT).dict["addresses"]) == [there.address]
    # nobody is there any more: what follows comes from the cache
    second = on(here, tmp_path, "discover")
    assert (second.returncode, there.address in second.stdout) == (0, True)
    assert error_line(second).startswith(f"reused {tmp_path / DEFAULT}: discovered ")
    assert error_line(second).endswith("; nothing was sent; --force discovers again")
    known = json.loads(on(here, tmp_path, "discover", "--json").stdout)
    assert (known["hosts"], known["reused"]) == ([there.address], True)
    assert re.fullmatch(r"discovered .+ by .+, expires in .+ min", known["why_reused"])
    forced = on(here, tmp_path, "discover", "--force", "--json")
    assert forced.returncode == 1
    found = json.loads(forced.stdout)
    assert (found["hosts"], found["reused"], found["swept"], found["my_address"]) == ([], False, 253, here.address)
    assert found["why_reused"] == ""
    assert list(read_cache(tmp_path / DEFAULT).dict["addresses"]) == []


def test_key_of_another_program_outlives_the_next_discovery(tmp_path: Path) -> None:
    candidate = f"127.0.0.1:{free_port()}"
    assert run(tmp_path, "discover", candidate).returncode == 1
    assert run(tmp_path, "update", 'note="hello"').returncode == 0
    assert run(tmp_path, "discover", "--force", candidate).returncode == 1
    assert read_cache(tmp_path / DEFAULT).dict["note"] == "hello"


def test_untrusted_broker_is_shown_with_the_remedy(network_namespaces: Networks, tmp_path: Path) -> None:
    here, there = network_namespaces(2)
    with LanPeers(there, open=[there.address]):
        finished = here.run([*COMMAND, "discover"], cwd=tmp_path, env=clean_environment(tmp_path), check=False)
    assert finished.returncode == 1
    assert "not_trusted" in finished.stdout
    assert "set MIROS_CACHE_TRUSTED_NETWORKS=auto" in finished.stderr


def test_too_large_network_keeps_cache_and_names_remedy(network_namespaces: Networks, tmp_path: Path) -> None:
    (here,) = network_namespaces(1)
    finished = on(here, tmp_path, "discover", MIROS_CACHE_SWEEP_PREFIX="/25")
    assert finished.returncode == 3
    assert "larger than a /25" in error_line(finished)
    assert "MIROS_CACHE_SWEEP_PREFIX=24" in error_line(finished)
    assert read_cache(tmp_path / DEFAULT).last_modified == 0


def test_a_person_sees_how_far_it_is(network_namespaces: Networks, tmp_path: Path) -> None:
    here, _ = network_namespaces(2)
    with terminal(tmp_path, "discover", before=tuple(here.command(()))) as shown:
        shown.show("asking the addresses of the network")
        shown.show("/253")
        shown.show("0 usable brokers among 253 addresses")


# --- given hosts ------------------------------------------------------------------------------------


def test_only_the_given_hosts_are_asked(tmp_path: Path) -> None:
    closed = f"127.0.0.1:{free_port()}"
    with FakeServer(generous_rabbit) as server:
        good = f"127.0.0.1:{server.port}"
        finished = run(tmp_path, "discover", "--json", closed, good)
    found = json.loads(finished.stdout)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert (found["hosts"], found["swept"]) == ([good], 0)
    assert {check["ip_address"]: check["reason"] for check in found["checks"]} == {closed: "refused", good: "ok"}
    assert list(read_cache(tmp_path / DEFAULT).dict["addresses"]) == [good]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_was_written_meanwhile_stays_and_is_said(tmp_path: Path, force: tuple[str, ...]) -> None:
    def talk(visit: Visit) -> None:
        with Cache(tmp_path / DEFAULT) as cache:
            cache.write({"addresses": ["10.0.0.9"], "time_out_in_minutes": 30})
        generous_rabbit(visit)

    with FakeServer(talk) as server:
        finished = run(tmp_path, "discover", f"127.0.0.1:{server.port}", *force)
    assert "superseded" in finished.stderr
    assert "keeps what was written meanwhile" in finished.stderr
    assert list(read_cache(tmp_path / DEFAULT).dict["addresses"]) == ["10.0.0.9"]


def test_no_usable_host_is_a_no(tmp_path: Path) -> None:
    finished = run(tmp_path, "discover", f"127.0.0.1:{free_port()}")
    assert finished.returncode == 1
    assert "0 usable brokers among 1 addresses" in error_line(finished)


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_young_document_of_another_kind_is_left_alone(tmp_path: Path, force: tuple[str, ...]) -> None:
    with Cache(tmp_path / DEFAULT) as cache:
        cache.write({"hosts": 1})
    finished = run(tmp_path, "discover", f"127.0.0.1:{free_port()}", *force)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "holds a fresh document of another kind" in error_line(finished)
    assert read_cache(tmp_path / DEFAULT).dict == {"hosts": 1}


def test_a_url_is_refused_without_repeating_its_password(tmp_path: Path) -> None:
    finished = run(tmp_path, "discover", "amqp://u:secret@127.0.0.1")
    assert finished.returncode == 2
    assert "not a URL" in error_line(finished)
    assert "secret" not in finished.stderr


def test_discovery_of_another_program_is_waited_for(tmp_path: Path) -> None:
    discovering = "\n".join(
        [
            "import sys, time",
            "from miros_cache_net import Cache",
            "def found():",
            "    print('begun', flush=True)",
            "    sys.stdin.read()",
            "    return {'addresses': ['10.0.0.9'], 'time_out_in_minutes': 30}",
            f"Cache({str(tmp_path / DEFAULT)!r}).get_or_discover(found)",
        ]
    )
    other = subprocess.Popen(
        [sys.executable, "-c", discovering],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(tmp_path),
        text=True,
    )
    with other, FakeServer(generous_rabbit) as server:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "begun\n"
        with subprocess.Popen(
            [*COMMAND, "discover", "--json", f"127.0.0.1:{server.port}"],
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
        ) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(3)
            other.stdin.close()
            assert waiting.stdout is not None
            found = json.loads(waiting.stdout.read())
        assert server.visits == []
    assert (found["hosts"], found["reused"]) == (["10.0.0.9"], True)


# --- for programs of the older package ---------------------------------------------------------------


def test_legacy_needs_no_node_and_no_old_program(rabbit_server: RabbitServer, tmp_path: Path) -> None:
    parameters = pika.URLParameters(rabbit_server.start().url)
    peer = f"{parameters.host}:{parameters.port}"
    found = []
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.exchange_delete(OLD_EXCHANGE)
        for _ in range(2):
            key = generate_key().decode()
            found.append(run(tmp_path, "discover", "--legacy", "--force", "--json", peer, MIROS_CACHE_KEYS=key))
            channel.exchange_declare(OLD_EXCHANGE, "topic")
        channel.exchange_delete(OLD_EXCHANGE)
    assert [(each.returncode, json.loads(each.stdout)["hosts"]) for each in found] == [(0, [peer])] * 2
    document = read_cache(tmp_path / OLD_FILE).dict
    assert list(document["addresses"]) == [], "a port has an old program drop the whole list"
    assert f"peer:{peer}" in document


def test_legacy_discovery_without_peers_leaves_expired_file(tmp_path: Path) -> None:
    assert run(tmp_path, "discover", "--legacy", f"127.0.0.1:{free_port()}").returncode == 1
    known = read_cache(tmp_path / OLD_FILE)
    assert (known.expired, list(known.dict["addresses"]), known.dict["time_out_in_minutes"]) == (True, [], 0)


def test_legacy_wants_the_name_that_old_programs_read(tmp_path: Path) -> None:
    finished = run(tmp_path, "discover", "--legacy", "--file", "mine.json")
    assert (finished.returncode, OLD_FILE in error_line(finished)) == (2, True)
    (tmp_path / "app").mkdir()
    assert (
        run(tmp_path, "discover", "--legacy", "--file", f"app/{OLD_FILE}", f"127.0.0.1:{free_port()}").returncode == 1
    )
    assert (tmp_path / "app" / OLD_FILE).exists()
