"""`Cache` and `read_cache`: the contents of the file for programs that want nothing else."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.errors import DocumentError, ModifyRecursion, PayloadError, StoreError, SymbolicLinkRefused
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.testing import ManualClock, wait_until
from tests.threads import NewThreads


@pytest.fixture(name="cache")
def new_cache(path: Path) -> Iterator[Cache]:
    with Cache(path) as cache:
        yield cache


# --- reading --------------------------------------------------------------------------------------------


def test_missing_file_reads_as_default_and_stays_missing(path: Path) -> None:
    with Cache(path, default={"a": 1}) as cache:
        payload = cache.read()
    assert (payload.dict, payload.expired, payload.last_modified) == ({"a": 1}, True, 0.0)
    assert read_cache(path).dict == {}
    assert list(path.parent.iterdir()) == []


def test_what_was_written_is_read_here_and_there(cache: Cache, path: Path) -> None:
    stored = cache.write({"a": [1, {"b": None}]})
    assert cache.read()._replace(age_s=0) == stored._replace(age_s=0)
    again = read_cache(path)
    assert isinstance(again, CacheReadPayload)
    assert (again.dict, again.expired, again.version) == ({"a": [1, {"b": None}]}, False, stored.version)


def test_unchanged_document_is_one_immutable_object(cache: Cache) -> None:
    cache.write({"a": {"b": [1]}})
    contents = cache.read().dict
    assert cache.read().dict is contents
    with pytest.raises(TypeError, match=r"copy\.deepcopy"):
        contents["a"]["b"].append(2)  # type: ignore[attr-defined]
    mine = copy.deepcopy(contents)
    mine["a"]["b"].append(2)
    assert cache.read().dict == {"a": {"b": [1]}}


def test_change_by_another_process_is_read_at_once(cache: Cache, path: Path) -> None:
    for number in range(50):
        with Cache(path) as other:
            other.write({"n": number})
        assert cache.read().dict == {"n": number}


def test_age_grows_while_the_document_stays(path: Path, manual_clock: ManualClock) -> None:
    with Cache(path, clock=manual_clock) as cache:
        cache.write({"time_out_in_minutes": 1})
        young = cache.read()
        manual_clock.advance(61)
        old = cache.read()
    assert (young.age_s, young.expired, old.age_s, old.expired) == (0.0, False, 61.0, True)
    assert young.dict is old.dict


def test_reading_changes_nothing_on_the_disk(cache: Cache, path: Path) -> None:
    path.write_bytes(b"broken")
    os.utime(path, (1, 1))
    for read in (cache.read, lambda: read_cache(path)):
        with pytest.raises(DocumentError, match="not JSON") as raised:
            read()
        assert str(raised.value).startswith(f"{path}: ")
        assert "the next write sets it aside" in str(raised.value)
    assert [each.name for each in path.parent.iterdir()] == ["cache.json"]
    assert path.read_bytes() == b"broken"


def test_link_is_refused_for_reading_and_writing(cache: Cache, path: Path, tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    path.symlink_to("real.json")
    for use in (cache.read, lambda: read_cache(path), lambda: cache.write({"a": 1})):
        with pytest.raises(SymbolicLinkRefused, match="name the file itself"):
            use()
    assert (tmp_path / "real.json").read_text() == "{}"


# --- changing -------------------------------------------------------------------------------------------


def test_update_changes_only_the_keys_that_it_names(cache: Cache) -> None:
    cache.write({"a": 1, "b": 2, "c": 3})
    assert cache.update({"a": 10, "d": 4}, delete=["b", "missing"]).dict == {"a": 10, "c": 3, "d": 4}


def test_modify_makes_a_document_younger_than_update(path: Path, manual_clock: ManualClock) -> None:
    with Cache(path, clock=manual_clock) as cache:
        cache.write({"a": 1})
        manual_clock.advance(100)
        assert cache.update({"b": 2}).age_s == 100
        assert cache.modify(lambda contents: {**contents, "c": 3}).age_s == 0


def test_failing_modify_changes_nothing(cache: Cache) -> None:
    cache.write({"list": [1]})

    def spoil(contents: dict[str, Any]) -> dict[str, Any]:
        contents["list"].append(2)
        raise KeyError("no")

    with pytest.raises(KeyError):
        cache.modify(spoil)
    assert cache.read().dict == {"list": [1]}
    assert cache.modify(lambda contents: {"list": [*contents["list"], 3]}).dict == {"list": [1, 3]}


def test_function_of_modify_must_not_use_its_document(cache: Cache, path: Path) -> None:
    alias = path.parent / "alias"
    alias.symlink_to(path.parent, target_is_directory=True)
    attempts: list[Callable[[], object]] = []
    for each in (cache, Cache(path), Cache(alias / path.name)):
        attempts += [
            partial(each.write, {"n": 2}),
            partial(each.update, {"n": 2}),
            partial(each.modify, dict),
            partial(each.get_or_discover, dict, force=True),
            each.wait,
        ]
    for attempt in (*attempts, cache.close):
        with pytest.raises(ModifyRecursion, match="have it return the new contents"):
            cache.modify(lambda old, attempt=attempt: {**old, "n": attempt()})
    assert cache.write({"n": 1}).dict == {"n": 1}


def test_function_of_modify_may_read_and_change_others(cache: Cache, path: Path) -> None:
    cache.write({"n": 1})
    with Cache(path.with_name("other.json")) as other:

        def function(old: dict[str, Any]) -> dict[str, Any]:
            with Cache(path) as same:
                return {"old": same.read().dict, **other.write({"n": old["n"]}).dict}

        assert cache.modify(function).dict == {"old": {"n": 1}, "n": 1}


def test_modify_that_changes_nothing_writes_nothing(cache: Cache, path: Path) -> None:
    cache.write({"a": 1})
    before = path.stat().st_ino
    cache.modify(lambda contents: contents)
    assert path.stat().st_ino == before


@pytest.mark.parametrize("bad", [{"a": {1}}, {"a": float("inf")}, {1: 1}, [1], "text", {"a": "\ud800"}])
def test_contents_that_json_cannot_hold_are_refused(cache: Cache, path: Path, bad: Any) -> None:
    for change in (cache.write, cache.update, lambda bad: cache.modify(lambda _: bad)):
        with pytest.raises(PayloadError):
            change(bad)
    assert cache.read().dict == {}


def test_document_beyond_the_cap_leaves_the_old_one(cache: Cache) -> None:
    cache.write({"a": 1})
    with pytest.raises(PayloadError, match="more than the"):
        cache.write({"big": "x" * limits.DOCUMENT_BYTES})
    assert cache.read().dict == {"a": 1}


def test_reserved_key_is_left_out(cache: Cache, path: Path) -> None:
    cache.write({"a": 1, "_miros_cache_net": "forged"})
    assert cache.read().dict == {"a": 1}
    assert set(json.loads(path.read_text())) == {"a", "_miros_cache_net"}


def test_vanished_directory_is_an_error_until_it_returns(tmp_path: Path) -> None:
    directory = tmp_path / "there"
    with Cache(directory / "cache.json") as cache:
        with pytest.raises(StoreError, match="create it"):
            cache.write({"a": 1})
        directory.mkdir()
        assert cache.write({"a": 1}).dict == {"a": 1}


# --- waiting --------------------------------------------------------------------------------------------


def test_wait_returns_when_another_writer_changed_the_document(cache: Cache, path: Path) -> None:
    cache.write({"n": 0})
    got: list[CacheReadPayload | None] = []
    waiting = threading.Thread(target=lambda: got.append(cache.wait(lambda payload: payload.dict["n"] == 3, 20)))
    waiting.start()
    with Cache(path) as other:
        for number in range(1, 4):
            other.write({"n": number})
    waiting.join(20)
    assert got[0] is not None
    assert got[0].dict == {"n": 3}


def test_wait_gives_up_after_its_time(cache: Cache) -> None:
    assert cache.wait(timeout_s=0.01) is None


def test_wait_leaves_no_thread_behind(cache: Cache) -> None:
    threads = NewThreads()
    cache.wait(timeout_s=0.0)
    wait_until(lambda: not threads.names(), what="only the threads of before")


# --- several threads and processes ------------------------------------------------------------------------


def test_threads_with_any_caches_lose_no_update(cache: Cache, path: Path) -> None:
    def count(mine: Cache) -> None:
        for _ in range(25):
            mine.modify(lambda contents: {"n": contents.get("n", 0) + 1})

    own = [Cache(path) for _ in range(2)]
    threads = [threading.Thread(target=count, args=(each,)) for each in (cache, cache, *own)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for each in own:
        each.close()
    assert cache.read().dict == {"n": 100}


def test_closed_cache_can_be_used_again(cache: Cache, path: Path) -> None:
    cache.write({"a": 1})
    cache.close()
    assert [link for link in _open_files() if str(path.parent) in link] == []
    assert cache.read().dict == {"a": 1}


def test_many_changes_leave_no_descriptor_and_no_file(cache: Cache, path: Path) -> None:
    for number in range(20):
        cache.write({"n": number})
        cache.read()
    mine = [link for link in _open_files() if str(path.parent) in link]
    assert len(mine) <= 2
    assert sorted(each.name for each in path.parent.iterdir()) == [".cache.json.lock", "cache.json"]


#: Each costs a program that lives only to read the file a fifth of its life or more.
SLOW_MODULES = (
    *("miros", "pika", "cryptography", "click", "rich", "pydantic", "inotify_simple", "asyncio", "socket", "logging"),
    *("random", "hashlib", "secrets", "inspect", "dataclasses", "pathlib", "typing", "threading"),
)


def test_a_plain_reader_loads_nothing_that_is_slow(cache: Cache, path: Path) -> None:
    cache.write({"a": [1]})
    code = (
        "import sys; from miros_cache_net import read_cache; assert read_cache(sys.argv[1]).dict == {'a': [1]};"
        "print(*sorted(set(sys.argv[2:]) & set(sys.modules)))"
    )
    # without the site packages, whose .pth files may import what they like
    command = [sys.executable, "-S", "-c", code, str(path), *SLOW_MODULES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == ""


def test_the_client_loads_no_miros_and_no_library(path: Path) -> None:
    code = (
        "import sys; from miros_cache_net import Cache; Cache(sys.argv[1]).write({});"
        "print({name.split('.')[0] for name in sys.modules} & set(sys.argv[2:]))"
    )
    libraries = ["miros", "pika", "cryptography", "click", "rich", "pydantic", "inotify_simple"]
    command = [sys.executable, "-c", code, str(path), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "set()"


def _open_files() -> list[str]:
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return links


def test_broken_file_set_aside_is_named_in_log(cache: Cache, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("{broken")
    cache.write({"n": 1})
    assert "set aside as" in caplog.text
