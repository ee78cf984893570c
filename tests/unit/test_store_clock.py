"""The cache file when this machine's clock jumps, is wrong, or meets stamps from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net import limits
from miros_cache_net.cache import Cache
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import DocumentTooLarge, Reason
from miros_cache_net.store.changes import Change, Merge, update_of, write_of
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.plain_read import read_cache
from miros_cache_net.testing import ManualClock

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
JUMPS = [-10 * YEAR_MS, -24 * HOUR_MS, 24 * HOUR_MS, 10 * YEAR_MS]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(name="store")
def new_store(tmp_path: Path, clock: ManualClock) -> Iterator[FileStore]:
    store = FileStore(tmp_path / "c.json", clock=clock, node_name="alpha")
    yield store
    store.close()


def change(store: FileStore, *changes: Change) -> Document:
    failed: list[Exception] = []
    with store.entered():
        document = store.apply(changes, lambda _change, error: failed.append(error)).document
    if failed:
        raise failed[0]
    return document


def heard(clock: ManualClock, contents: dict[str, int], ahead_ms: int = 0) -> Document:
    """What another host, whose clock is that far ahead, wrote as a whole."""
    now_ms = clock.wall_ms() + ahead_ms
    return Document.unwritten({}).written(contents, Stamp(now_ms, 0, "beta"), now_ms)


@pytest.mark.parametrize("jump_ms", [-24 * HOUR_MS, 24 * HOUR_MS])
def test_day_of_clock_jump_loses_no_write(tmp_path: Path, clock: ManualClock, jump_ms: int) -> None:
    with Cache(tmp_path / "c.json", clock=clock) as cache:
        cache.write({"n": 1, "time_out_in_minutes": 30})
        clock.jump_wall(jump_ms)
        assert cache.read().age_s >= 0
        cache.update({"m": 2})
        assert cache.read().dict == {"n": 1, "m": 2, "time_out_in_minutes": 30}
        cache.write({"n": 3, "time_out_in_minutes": 30})
        assert cache.read().dict == {"n": 3, "time_out_in_minutes": 30}
        assert not cache.read().expired


@pytest.mark.parametrize("jump_ms", JUMPS)
def test_write_after_a_jump_beats_what_it_saw(store: FileStore, clock: ManualClock, jump_ms: int) -> None:
    before = change(store, write_of({"n": 1, "m": 1}))
    clock.jump_wall(jump_ms)
    updated = change(store, update_of({"n": 2}))
    assert before.merged(updated).contents == updated.merged(before).contents == {"n": 2, "m": 1}
    clock.jump_wall(-jump_ms // 2)
    written = change(store, write_of({"n": 3}))
    assert updated.merged(written).contents == {"n": 3}


@pytest.mark.parametrize("jump_ms", JUMPS)
def test_no_access_gives_a_stamp_anew(store: FileStore, clock: ManualClock, jump_ms: int) -> None:
    before = change(store, write_of({"n": 1}), update_of({"m": 1}))
    clock.jump_wall(jump_ms)
    with store.entered():
        assert store.load().document == before
    after = change(store, update_of({"x": 1}))
    assert after.floor == before.floor
    assert {key: after.entries[key] for key in before.entries} == before.entries


def test_clock_set_right_loses_no_earlier_update(store: FileStore, clock: ManualClock) -> None:
    fleet = heard(clock, {"theirs": 1})
    change(store, Merge(fleet))
    clock.jump_wall(-HOUR_MS)
    mine = change(store, update_of({"mine": 1}))
    clock.jump_wall(HOUR_MS)
    change(store, update_of({"later": 1}))
    assert fleet.merged(mine).contents == {"theirs": 1, "mine": 1}
    assert store.read().document.contents == {"theirs": 1, "mine": 1, "later": 1}


def test_first_update_from_behind_takes_nothing_from_fleet(store: FileStore, clock: ManualClock) -> None:
    fleet = heard(clock, {"a": 1, "honest": 1})
    clock.jump_wall(-HOUR_MS)
    mine = change(store, update_of({"mine": 3}))
    clock.jump_wall(HOUR_MS)
    assert change(store, Merge(fleet)).contents == fleet.contents
    assert fleet.merged(mine) is fleet


def test_document_an_hour_ahead_can_be_written_over(store: FileStore, clock: ManualClock) -> None:
    ahead = heard(clock, {"n": 1, "m": 1}, HOUR_MS)
    assert change(store, Merge(ahead)).contents == {"n": 1, "m": 1}
    mine = change(store, update_of({"n": 2}))
    assert mine.ahead_ms(clock.wall_ms()) == HOUR_MS
    assert ahead.merged(mine).contents == {"n": 2, "m": 1}


def test_removed_file_leaves_its_stamps_behind(store: FileStore, clock: ManualClock) -> None:
    ahead = change(store, Merge(heard(clock, {"n": 1}, HOUR_MS)))
    os.unlink(store.path)
    assert ahead.merged(change(store, write_of({"n": 2}))).contents == {"n": 2}


def test_clock_past_year_2190_still_writes_valid_documents(store: FileStore, clock: ManualClock) -> None:
    clock.jump_wall(limits.STAMP_WALL_MS - clock.wall_ms())
    change(store, write_of({"n": 1}))
    first = store.read().document
    second = change(store, update_of({"n": 2}))
    assert first.merged(second).contents == {"n": 2}
    assert second.floor.discovered_at_ms == limits.OWN_CLOCK_MS
    assert Document.from_json(second.to_json()) == second
    assert os.stat(store.path).st_mtime == limits.OWN_CLOCK_MS // 1000


@pytest.mark.parametrize("now_ms", [-5, 0])
def test_clock_before_1970_writes_a_document_with_age(store: FileStore, clock: ManualClock, now_ms: int) -> None:
    clock.jump_wall(now_ms - clock.wall_ms())
    assert change(store, write_of({"n": 1})).floor.discovered_at_ms == 1
    assert change(store, update_of({"n": 2})).contents == {"n": 2}


def test_file_from_past_year_2200_is_set_aside(tmp_path: Path, clock: ManualClock) -> None:
    notices: list[tuple[Reason, str]] = []
    store = FileStore(tmp_path / "c.json", clock=clock, notice=lambda *each: notices.append(each))
    late = Document.unwritten({}).written({"n": 1}, Stamp(limits.LATEST_STAMP_MS + 1, 0, "beta"), clock.wall_ms())
    (tmp_path / "c.json").write_bytes(late.to_text())
    assert change(store, update_of({"m": 2})).contents == {"m": 2}
    store.close()
    assert [reason for reason, _ in notices] == [Reason.MALFORMED]
    assert "2200" in notices[0][1]
    (aside,) = tmp_path.glob("c.json.corrupt-*")
    assert aside.read_bytes() == late.to_text()


@pytest.mark.parametrize("ahead_ms", [30_000, HOUR_MS])
def test_file_time_is_never_in_the_future(store: FileStore, clock: ManualClock, ahead_ms: int) -> None:
    change(store, Merge(heard(clock, {"n": 1}, ahead_ms)))
    assert os.stat(store.path).st_mtime_ns == clock.wall_ms() * 1_000_000
    clock.advance(ahead_ms / 1000 + 5)
    change(store, update_of({"m": 1}))
    assert os.stat(store.path).st_mtime_ns == store.read().document.floor.discovered_at_ms * 1_000_000


def test_discovery_from_the_future_reads_as_expired(store: FileStore, clock: ManualClock) -> None:
    change(store, Merge(heard(clock, {"time_out_in_minutes": 10**9}, 61_000)))
    assert store.read().payload(store.path, clock.wall_ms()).expired
    assert store.read().payload(store.path, clock.wall_ms()).stale
    assert not store.read().payload(store.path, clock.wall_ms() + 1_000).expired


def test_plain_read_takes_future_discovery_for_expired(tmp_path: Path) -> None:
    for ahead_ms, expired in ((HOUR_MS, True), (0, False)):
        clock = ManualClock()
        clock.jump_wall(int(os.stat(tmp_path).st_mtime * 1000) - clock.wall_ms())
        document = heard(clock, {"time_out_in_minutes": 10**9}, ahead_ms)
        (tmp_path / "c.json").write_bytes(document.to_text())
        assert read_cache(tmp_path / "c.json").expired is expired


# --- what a cap refuses -----------------------------------------------------------------------------------


@pytest.fixture(name="full")
def three_keys_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_KEYS", 3)


@pytest.mark.usefixtures("full")
def test_merge_past_a_cap_leaves_the_file(store: FileStore, clock: ManualClock) -> None:
    other = heard(clock, {"x": 1}).updated({"y": 1}, [], Stamp(clock.wall_ms(), 5, "beta"), clock.wall_ms())
    change(store, Merge(other))
    mine = change(store, update_of({"z": 1}))
    text = Path(store.path).read_bytes()
    theirs = other.updated({"w": 1}, [], Stamp(clock.wall_ms(), 9, "beta"), clock.wall_ms())
    with pytest.raises(DocumentTooLarge, match=r"4 keys are more than the 3 allowed.*write the whole document"):
        change(store, Merge(theirs))
    assert Path(store.path).read_bytes() == text
    assert store.read().document == mine
    assert DocumentTooLarge.reason == Reason.TOO_LARGE


def too_large_together(store: FileStore, clock: ManualClock) -> tuple[Document, Document]:
    """What the file holds now, and what a host that is a year ahead has, which fits only without it."""
    base = change(store, write_of({"a": 1}))
    theirs = base
    for number, key in enumerate(("c", "d")):
        stamp = Stamp(clock.wall_ms() + YEAR_MS, number, "beta")
        theirs = theirs.updated({key: 1}, [], stamp, clock.wall_ms())
    return change(store, update_of({"b": 1})), theirs


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("by_another", [False, True])
def test_whole_write_from_behind_mends_refused_merges(store: FileStore, clock: ManualClock, by_another: bool) -> None:
    _, theirs = too_large_together(store, clock)
    with pytest.raises(DocumentTooLarge):
        change(store, Merge(theirs))
    if by_another:
        # a process that knows of it only what stands in the lock file
        with Cache(store.path, clock=clock) as cache:
            cache.write({"mended": 1})
    else:
        change(store, write_of({"mended": 1}))
    mended = store.read().document
    assert theirs.merged(mended).contents == mended.merged(theirs).contents == {"mended": 1}


@pytest.mark.usefixtures("full")
def test_refused_merge_is_seen_within_the_same_access(store: FileStore, clock: ManualClock) -> None:
    _, theirs = too_large_together(store, clock)
    failed: list[Exception] = []
    with store.entered():
        store.apply([Merge(theirs), write_of({"mine": 1})], lambda _change, error: failed.append(error))
    assert [type(error) for error in failed] == [DocumentTooLarge]
    assert theirs.merged(store.read().document).contents == {"mine": 1}


@pytest.mark.usefixtures("full")
def test_refused_merge_makes_no_later_one_old(store: FileStore, clock: ManualClock) -> None:
    mine, theirs = too_large_together(store, clock)
    with pytest.raises(DocumentTooLarge):
        change(store, Merge(theirs))
    # a power cut may leave the next document on the disk, and in the lock file what stood there before it
    later = mine.updated({"b": 2}, [], Stamp(clock.wall_ms() + 5, 0, "beta"), 1)
    Path(store.path).write_bytes(later.to_text())
    with store.entered():
        assert store.load().document == later


@pytest.mark.usefixtures("full")
def test_keys_that_come_and_go_are_never_refused(store: FileStore) -> None:
    change(store, write_of({"a": 0, "b": 0, "c": 0}))
    for number in range(50):
        keys = [f"{name}{number}" for name in "abc"]
        old = store.read().document.contents
        assert change(store, update_of(dict.fromkeys(keys, number), list(old))).contents == dict.fromkeys(keys, number)
