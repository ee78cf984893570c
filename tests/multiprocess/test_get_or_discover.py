"""Any expensive function, run once for all who want its result: threads, processes, hosts, kills."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.errors import DirectoryMissing, DiscoveryTimeout
from miros_cache_net.testing import Fleet, wait_until

SPAWN = multiprocessing.get_context("spawn")
#: Twenty interpreters start at once, on a machine that may be busy.
AMPLE_S = 300.0


def discover(directory: str, seconds: float) -> dict[str, Any]:
    """Leaves a trace of having run."""
    descriptor = os.open(f"{directory}/runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"%d\n" % os.getpid())
    os.close(descriptor)
    time.sleep(seconds)  # what an expensive discovery does
    return {"found": os.getpid(), "time_out_in_minutes": 30}


def runs(directory: Path) -> list[int]:
    path = directory / "runs"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def program(directory: str, seconds: float) -> None:
    with Cache(f"{directory}/cache.json") as cache:
        payload = cache.get_or_discover(lambda: discover(directory, seconds))
        Path(f"{directory}/result-{os.getpid()}").write_text(str(payload.dict["found"]))


def start(directory: Path, count: int, seconds: float) -> list[Any]:
    processes = [SPAWN.Process(target=program, args=(str(directory), seconds)) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


def test_one_of_twenty_processes_discovers_for_all(tmp_path: Path) -> None:
    processes = start(tmp_path, 20, 0.5)
    for process in processes:
        process.join(AMPLE_S)
        assert process.exitcode == 0
    (winner,) = runs(tmp_path)
    assert {path.read_text() for path in tmp_path.glob("result-*")} == {str(winner)}


def test_another_takes_over_when_the_discoverer_is_killed(tmp_path: Path) -> None:
    processes = start(tmp_path, 3, 5.0)
    wait_until(lambda: runs(tmp_path), timeout_s=30, what="one to begin")
    first = runs(tmp_path)[0]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(runs(tmp_path)) == 2, timeout_s=10, what="another to begin")
    for process in processes:
        process.join(AMPLE_S)
    assert sorted(process.exitcode for process in processes) == [-9, 0, 0]
    assert len(runs(tmp_path)) == 2


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache.json") as made:
        yield made


def test_a_young_document_is_returned_and_nothing_runs(cache: Cache) -> None:
    cache.write({"found": 1})
    assert cache.get_or_discover(lambda: pytest.fail("it ran")).dict == {"found": 1}


def fails() -> dict[str, Any]:
    raise ConnectionError("planted")


def test_discovery_error_reaches_its_caller(cache: Cache) -> None:
    with pytest.raises(ConnectionError, match="planted"):
        cache.get_or_discover(fails)
    assert cache.get_or_discover(lambda: {"found": 2}).dict == {"found": 2}


@pytest.mark.parametrize("broken", ["{broken", "[1]", ""])
def test_malformed_file_is_set_aside_and_discovered_again(cache: Cache, broken: str) -> None:
    cache.path.write_text(broken)
    assert cache.get_or_discover(lambda: {"found": 3}).dict == {"found": 3}
    (aside,) = cache.path.parent.glob("cache.json.corrupt-*")
    assert aside.read_text() == broken


def test_failed_discovery_leaves_malformed_file_expired(cache: Cache) -> None:
    cache.path.write_text("{broken")
    with pytest.raises(ConnectionError, match="planted"):
        cache.get_or_discover(fails)
    assert (cache.read().dict, cache.read().expired) == ({}, True)


def test_missing_directory_is_an_error_that_says_so(tmp_path: Path) -> None:
    with Cache(tmp_path / "absent" / "cache.json") as cache, pytest.raises(DirectoryMissing, match="create it"):
        cache.get_or_discover(lambda: pytest.fail("it ran"))


def test_discovery_time_out_tells_whom_it_waited_for(tmp_path: Path, cache: Cache) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> dict[str, Any]:
        begun.set()
        may_end.wait(20)
        return {"found": 1}

    with Cache(tmp_path / "cache.json") as other:
        thread = threading.Thread(target=other.get_or_discover, args=(slow,))
        thread.start()
        begun.wait(20)
        try:
            with pytest.raises(DiscoveryTimeout, match="another program"):
                cache.get_or_discover(lambda: {"found": 2}, timeout_s=0.05)
        finally:
            may_end.set()
            thread.join()
    assert cache.read().dict == {"found": 1}


def test_overtaken_result_is_dropped_and_logged(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    def overtaken() -> dict[str, Any]:
        cache.write({"found": "younger"})
        return {"found": "older"}

    assert cache.get_or_discover(overtaken).dict == {"found": "younger"}
    assert "superseded" in caplog.text


def test_update_during_the_discovery_survives_its_result(cache: Cache) -> None:
    cache.write({"found": 1, "time_out_in_minutes": 0})

    def discovery() -> dict[str, Any]:
        cache.update({"note": "meanwhile"})
        return {"found": 2}

    assert cache.get_or_discover(discovery).dict == {"found": 2, "note": "meanwhile"}


def test_plain_programs_on_two_hosts_discover_once(hosts: Fleet) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    begun, may_end, ran = threading.Event(), threading.Event(), []

    def discovery(name: str) -> dict[str, Any]:
        ran.append(name)
        begun.set()
        may_end.wait(20)
        return {"by": name, "time_out_in_minutes": 30}

    results: dict[str, Any] = {}

    def want(name: str, cache: Cache) -> None:
        results[name] = cache.get_or_discover(lambda: discovery(name)).dict

    threads = [threading.Thread(target=want, args=("alpha", alpha.cache))]
    threads[0].start()
    begun.wait(20)
    threads.append(threading.Thread(target=want, args=("beta", beta.cache)))
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join(30)
    assert ran == ["alpha"]
    assert results["alpha"] == results["beta"] == {"by": "alpha", "time_out_in_minutes": 30}
