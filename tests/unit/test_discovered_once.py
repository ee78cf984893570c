"""`discovered_once`: a function that is called once for all who ask."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import AsyncCache, Cache, DiscoveryRecursion, PayloadError, discovered_once
from miros_cache_net.errors import DiscoveryTimeout, NoSpace


class Printers:
    """Something slow, and how often it was done."""

    def __init__(self) -> None:
        self.calls = 0

    def search(self) -> dict[str, Any]:
        self.calls += 1
        return {"printers": [self.calls]}

    async def search_async(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        return self.search()


def test_a_function_is_called_once_and_its_result_shared(path: Path) -> None:
    slow = Printers()
    printers = discovered_once(path, minutes=60)(slow.search)
    threads = [threading.Thread(target=printers) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert printers() == {"printers": [1]}
    assert slow.calls == 1
    again = discovered_once(path, minutes=60)(slow.search)
    assert again() == {"printers": [1]}
    assert again(force=True) == {"printers": [2]} == printers()
    assert isinstance(printers.cache, Cache) and printers.cache.read().dict["time_out_in_minutes"] == 60


def test_an_async_function_is_awaited_as_before(path: Path) -> None:
    slow = Printers()
    printers = discovered_once(path, minutes=60)(slow.search_async)

    async def many() -> list[Mapping[str, Any]]:
        return await asyncio.gather(*(printers() for _ in range(5)))

    assert asyncio.run(many()) == [{"printers": [1]}] * 5
    assert asyncio.run(many())[0] == {"printers": [1]}
    assert isinstance(printers.cache, AsyncCache)
    assert slow.calls == 1
    asyncio.run(printers.cache.close())


def test_another_process_does_not_call_it_again(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os\nfrom miros_cache_net import discovered_once\n\n"
        '@discovered_once("printers.json", minutes=60)\ndef printers():\n'
        '    """Find them."""\n    return {"by": os.getpid()}\n\n'
        "print(printers()['by'], printers.__name__, printers.__doc__)\n"
    )
    said = {subprocess.check_output([sys.executable, program], cwd=tmp_path, text=True) for _ in range(3)}
    assert len(said) == 1 and said.pop().endswith(" printers Find them.\n")


def test_the_functions_own_time_out_counts_where_none_is_given(path: Path) -> None:
    contents = {"printers": [], "time_out_in_minutes": 0.5}
    printers = discovered_once(path)(lambda: contents)
    assert printers() == contents
    assert not Cache(path).read().expired


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_it_raises_reaches_the_caller_and_the_next_tries(path: Path, kind: str) -> None:
    errors: list[Exception] = [KeyError("no"), NoSpace("its own")]

    def search() -> dict[str, Any]:
        if errors:
            raise errors.pop()
        return {"n": 1}

    async def search_async() -> dict[str, Any]:
        return search()

    call: Any = discovered_once(path)(search)
    if kind == "async":
        decorated = discovered_once(path)(search_async)

        def call() -> Any:
            return asyncio.run(decorated())

    for expected in (NoSpace, KeyError):
        with pytest.raises(expected):
            call()
    assert call() == {"n": 1}


def test_a_function_that_calls_itself_is_told(path: Path) -> None:
    @discovered_once(path, minutes=5)
    def factorial() -> dict[str, Any]:
        return {"n": factorial()}

    with pytest.raises(DiscoveryRecursion, match=f"^{path}: its discovery asks"):
        factorial()


def test_two_functions_that_call_each_other_are_told(tmp_path: Path) -> None:
    @discovered_once(tmp_path / "a.json")
    def one() -> dict[str, Any]:
        return {"of": dict(other())}

    @discovered_once(tmp_path / "b.json")
    def other() -> dict[str, Any]:
        return {"of": dict(one())}

    with pytest.raises(RecursionError, match=r"a\.json"):
        one()


def test_one_discovery_may_use_another_files(tmp_path: Path) -> None:
    networks = discovered_once(tmp_path / "networks.json")(lambda: {"n": 1})

    @discovered_once(tmp_path / "hosts.json")
    def hosts() -> dict[str, Any]:
        return {"of": networks()["n"]}

    assert hosts() == {"of": 1}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_without_a_usable_file_the_function_is_called(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Printers()
    nowhere = tmp_path / "missing" / "printers.json"
    plain, awaited = discovered_once(nowhere)(slow.search), discovered_once(nowhere)(slow.search_async)
    with caplog.at_level(logging.WARNING), pytest.warns(RuntimeWarning, match="is not shared: .*create it") as warned:
        for number in (1, 2):
            assert (plain() if kind == "sync" else asyncio.run(awaited())) == {"printers": [number]}
    assert "the result is not shared: " in caplog.text and "create it" in caplog.text
    assert {each.filename for each in warned} == {__file__ if kind == "sync" else asyncio.events.__file__}


def test_a_result_that_cannot_be_stored_is_not_lost(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slow = Printers()

    def search() -> dict[str, Any]:
        path.unlink(missing_ok=True)
        path.mkdir()  # its place is taken while it is being discovered
        return slow.search()

    with pytest.warns(RuntimeWarning, match="not shared"):
        assert discovered_once(path)(search)() == {"printers": [1]}
    assert slow.calls == 1
    assert "not shared" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can become another user")
def test_a_home_directory_without_write_permission_costs_no_result(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    for place, mode in ((home, 0o555), (other, 0o755)):
        place.mkdir(mode=mode)
    program = (
        "import os\nfrom miros_cache_net import discovered_once\n"
        "def found():\n    return {'n': os.getuid()}\n"
        f"os.chdir({str(other)!r}); discovered_once('printers.json')(found)()\n"  # loads all that root alone can read
        f"os.chdir({str(home)!r}); os.setgid(65534); os.setuid(65534)\n"
        "found = discovered_once('printers.json', minutes=5)(found)\n"
        "for _ in range(3): print(found())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"HOME": str(home)}
    )
    assert done.stdout == 3 * "{'n': 65534}\n"
    assert done.stderr.count("is not shared") == 1  # by a program that has set up no log


def test_a_wait_that_is_over_is_told_and_calls_nothing(path: Path) -> None:
    slow, begun, end = Printers(), threading.Event(), threading.Event()

    def search() -> dict[str, Any]:
        begun.set()
        end.wait(30)
        return slow.search()

    printers = discovered_once(path)(search)
    first = threading.Thread(target=printers)
    first.start()
    begun.wait(30)
    with pytest.raises(DiscoveryTimeout):
        printers(timeout_s=0.05)
    end.set()
    first.join()
    assert slow.calls == 1


@pytest.mark.parametrize(
    ("minutes", "function", "words"),
    [
        (5, lambda network: {}, "takes network: one file holds one result"),
        ("5", dict, "minutes='5'"),
        (-1, dict, "minutes=-1"),
        (True, dict, "minutes=True"),
        (float("nan"), dict, "minutes=nan"),
        (5, "text", "is no function"),
    ],
)
def test_wrong_use_is_told_where_it_is_written(path: Path, minutes: Any, function: Any, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        discovered_once(path, minutes=minutes)(function)


@pytest.mark.parametrize("result", [[1], None, {"a": {1}}])
def test_a_result_that_json_cannot_hold_is_refused(path: Path, result: Any) -> None:
    with pytest.raises(PayloadError):
        discovered_once(path, minutes=5)(lambda: result)()
