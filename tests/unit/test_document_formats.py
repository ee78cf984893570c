"""Files that earlier releases wrote are read, and those of later ones are left alone.

`tests/fixtures/format-N` holds documents as a release that writes format N wrote them.  They are never written anew:
when the format changes, the next folder is added beside them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.document import layout, strict_json
from miros_cache_net.document.value import Document, Floor, Stamp
from miros_cache_net.errors import DocumentError, FileRefused
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.plain_read import read_cache
from miros_cache_net.testing import ManualClock

FIXTURES = Path(__file__).parents[1] / "fixtures"
WRITTEN_MS, UPDATED_MS, DESTROYED_MS, AGAIN_MS = (1_700_000_000_000 + 1_000 * after_s for after_s in (0, 60, 70, 80))
ALPHA, BETA = "alpha-00000001", "beta-00000002"

UNWRITTEN = Document.unwritten({"addresses": []})
WRITTEN = (
    Document.unwritten({})
    .written(
        {"addresses": ["10.0.0.7"], "note": "día", "time_out_in_minutes": 30, "gone": 1},
        Stamp(WRITTEN_MS, 0, ALPHA),
        WRITTEN_MS,
    )
    .updated({"note": {"by": "beta"}}, ["gone"], Stamp(UPDATED_MS, 3, BETA), UPDATED_MS)
)
DESTROYED = WRITTEN.destroyed(Stamp(DESTROYED_MS, 0, BETA))
FIRST_UPDATE = Document.unwritten({"addresses": [], "gone": 1}).updated(
    {"mine": 3}, ["gone"], Stamp(UPDATED_MS, 0, BETA), UPDATED_MS
)
UPDATED_AGAIN = DESTROYED.updated({"mine": 4}, [], Stamp(AGAIN_MS, 0, ALPHA), AGAIN_MS)

BOTH = {"unwritten": UNWRITTEN, "written": WRITTEN, "destroyed": DESTROYED}
OF_2 = {**BOTH, "first-update": FIRST_UPDATE, "updated-after-destruction": UPDATED_AGAIN}
ALL = [(1, name) for name in BOTH] + [(2, name) for name in OF_2]


def fixture(number: int, name: str) -> Path:
    return FIXTURES / f"format-{number}" / f"{name}.json"


@pytest.fixture(name="path")
def new_path(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


@pytest.fixture(name="store")
def new_store(path: Path, manual_clock: ManualClock) -> Iterator[FileStore]:
    store = FileStore(path, clock=manual_clock)
    yield store
    store.close()


def test_every_fixture_is_read_by_a_test() -> None:
    assert sorted(path.relative_to(FIXTURES) for path in FIXTURES.glob("format-*/*.json")) == sorted(
        fixture(number, name).relative_to(FIXTURES) for number, name in ALL
    )


@pytest.mark.parametrize(("number", "name"), ALL)
def test_document_of_every_format_keeps_its_stamps(number: int, name: str) -> None:
    value = strict_json.loads(fixture(number, name).read_bytes())
    assert value[layout.META_KEY]["format"] == number
    assert Document.from_json(value) == OF_2[name]


@pytest.mark.parametrize("name", OF_2)
def test_written_text_is_format_2_to_the_byte(name: str) -> None:
    assert OF_2[name].to_text() == fixture(2, name).read_bytes()


def test_weakest_floor_is_in_the_file_as_such() -> None:
    assert FIRST_UPDATE.floor == Floor(Stamp(0, 0, BETA), UPDATED_MS)
    assert UPDATED_AGAIN.floor == Floor(Stamp(DESTROYED_MS, 0, BETA), AGAIN_MS)


@pytest.mark.parametrize(("number", "name"), ALL)
def test_file_of_every_format_stays_until_next_write(store: FileStore, path: Path, number: int, name: str) -> None:
    shutil.copy(fixture(number, name), path)
    with store.entered():
        assert store.load().document == OF_2[name]
    assert path.read_bytes() == fixture(number, name).read_bytes()
    assert read_cache(path).dict == OF_2[name].contents
    with Cache(path) as cache:
        cache.update({"new": 1})
        after = cache.read().dict
    assert after == {**OF_2[name].contents, "new": 1}
    again = json.loads(path.read_bytes())
    assert again[layout.META_KEY]["format"] == 2
    for key, entry in OF_2[name].entries.items():
        kept = Document.from_json(strict_json.loads(path.read_bytes())).entries[key]
        assert kept.stamp == entry.stamp or not OF_2[name].is_written


@pytest.mark.parametrize("number", [1, 2])
def test_file_laid_out_by_an_editor_keeps_stamps(store: FileStore, path: Path, number: int) -> None:
    path.write_text(json.dumps(json.loads(fixture(number, "written").read_bytes()), indent=2))
    with store.entered():
        snapshot = store.load()
    assert not snapshot.foreign
    assert snapshot.document == WRITTEN


@pytest.mark.parametrize("number", [0, 3, 17])
def test_file_of_an_unknown_format_is_refused(store: FileStore, path: Path, number: int) -> None:
    text = fixture(2, "written").read_bytes().replace(b'"format":2', b'"format":%d' % number)
    path.write_bytes(text)
    name = f"format {number}; this release reads 1 and 2"
    with pytest.raises(FileRefused, match=name):
        store.read()
    with pytest.raises(FileRefused, match=name), store.entered():
        store.load()
    with pytest.raises(FileRefused, match=name):
        read_cache(path)
    with Cache(path) as cache, pytest.raises(FileRefused, match=name):
        cache.write({"n": 1})
    assert path.read_bytes() == text
    assert [each.name for each in path.parent.iterdir() if "corrupt" in each.name] == []
    with pytest.raises(DocumentError, match=name):
        Document.from_json(json.loads(text))
