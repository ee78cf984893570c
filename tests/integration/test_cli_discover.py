"""`discover` as users run it: on networks of its own, and among given hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.testing import NetworkHost, free_port
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


def test_discover_prints_what_it_found_and_writes_the_cache_which_the_next_one_reuses(
    network_namespaces: Networks, tmp_path: Path
) -> None:
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
    assert "reused, nothing was asked; --force looks again" in error_line(second)
    known = json.loads(on(here, tmp_path, "discover", "--json").stdout)
    assert (known["hosts"], known["reused"]) == ([there.address], True)
    forced = on(here, tmp_path, "discover", "--force", "--json")
    assert forced.returncode == 1
    found = json.loads(forced.stdout)
    assert (found["hosts"], found["reused"], found["swept"], found["my_address"]) == ([], False, 253, here.address)
    assert list(read_cache(tmp_path / DEFAULT).dict["addresses"]) == []


def test_a_broker_that_may_not_be_told_the_password_is_shown_with_what_helps(
    network_namespaces: Networks, tmp_path: Path
) -> None:
    here, there = network_namespaces(2)
    with LanPeers(there, open=[there.address]):
        finished = here.run([*COMMAND, "discover"], cwd=tmp_path, env=clean_environment(tmp_path), check=False)
    assert finished.returncode == 1
    assert "not_trusted" in finished.stdout
    assert "set MIROS_CACHE_TRUSTED_NETWORKS=auto" in finished.stderr


def test_a_network_that_is_too_large_ends_with_what_helps_and_the_cache_as_it_was(
    network_namespaces: Networks, tmp_path: Path
) -> None:
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
def test_a_young_document_of_another_kind_is_left_alone(tmp_path: Path, force: tuple[str, ...]) -> None:
    with Cache(tmp_path / DEFAULT) as cache:
        cache.write({"hosts": 1})
    finished = run(tmp_path, "discover", f"127.0.0.1:{free_port()}", *force)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "holds a young document of another kind" in error_line(finished)
    assert read_cache(tmp_path / DEFAULT).dict == {"hosts": 1}


def test_a_url_is_refused_without_repeating_its_password(tmp_path: Path) -> None:
    finished = run(tmp_path, "discover", "amqp://u:secret@127.0.0.1")
    assert finished.returncode == 2
    assert "no URL" in error_line(finished)
    assert "secret" not in finished.stderr


def test_while_another_program_discovers_its_result_is_waited_for(tmp_path: Path) -> None:
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
