"""Which cache file it is when none is named: one answer for all who ask, and what the question costs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import Cache, CacheFileChart, Settings, read_cache
from miros_cache_net.cli.cache_file import chosen_path
from miros_cache_net.errors import SettingsError
from tests.unit.test_package import loaded_by

#: From the weakest to the strongest.
SOURCES = ["nothing", "user", "toml", "named", "dotenv", "environment"]
DEFAULT = ".miros_rabbitmq_cache.json"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and home, and none of our variables."""
    for name in list(os.environ):
        if name.startswith("MIROS_CACHE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def name_it_in(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `source` say that the cache file is called after it."""
    toml = f'file = "{source}.json"\n'
    if source == "user":
        config = Path("~/.config/miros-cache-net/config.toml").expanduser()
        config.parent.mkdir(parents=True)
        config.write_text(toml)
    elif source == "toml":
        Path("miros-cache-net.toml").write_text(toml)
    elif source == "named":
        Path("other.toml").write_text(toml)
        monkeypatch.setenv("MIROS_CACHE_CONFIG", "other.toml")
    elif source == "dotenv":
        Path(".env").write_text(f"MIROS_CACHE_FILE={source}.json\n")
    elif source == "environment":
        monkeypatch.setenv("MIROS_CACHE_FILE", f"{source}.json")


def of_a_cache() -> str:
    with Cache() as cache:
        cache.update({"a": 1})
        return str(cache.path)


def of_a_chart() -> str:
    chart = CacheFileChart()
    chart.stop()
    return chart.file_path


ASKERS: list[Callable[[], Any]] = [
    of_a_cache,
    of_a_chart,
    lambda: read_cache().file_path,
    lambda: Settings().file,
    lambda: chosen_path(None),
]


@pytest.mark.parametrize("strongest", range(len(SOURCES)), ids=SOURCES)
def test_the_strongest_source_names_one_file_for_all(
    strongest: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in SOURCES[: strongest + 1]:
        name_it_in(source, monkeypatch)
    expected = here / (f"{SOURCES[strongest]}.json" if strongest else DEFAULT)
    assert [str(ask()) for ask in ASKERS] == [str(expected)] * len(ASKERS)


def test_variable_in_dotenv_may_name_toml_file(here: Path) -> None:
    Path("other.toml").write_text('file = "~/peers.json"')
    Path(".env").write_text("MIROS_CACHE_FILE=\nMIROS_CACHE_CONFIG=other.toml\n")
    assert [str(ask()) for ask in ASKERS] == [str(here.parent / "peers.json")] * len(ASKERS)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("miros-cache-net.toml", "file = \n"),
        ("miros-cache-net.toml", 'file = ""\n'),
        ("miros-cache-net.toml", 'file = "a\\u0000b"\n'),
        (".env", "\udcff"),
        (".env", "MIROS_CACHE_CONFIG=absent.toml"),
    ],
)
def test_an_unreadable_source_is_one_clear_line(file: str, text: str) -> None:
    Path(file).write_bytes(text.encode("utf-8", "surrogateescape"))
    for ask in ASKERS:
        with pytest.raises(SettingsError) as caught:
            ask()
        assert "\n" not in str(caught.value)
        assert ("absent.toml" if "absent" in text else file) in str(caught.value)
    assert [path.name for path in Path().iterdir()] == [file]


def test_plain_cache_ignores_other_mistakes_in_settings(here: Path) -> None:
    Path("miros-cache-net.toml").write_text('file = "peers.json"\nheartbeat_s = "often"\n')
    assert of_a_cache() == str(here / "peers.json")


@pytest.mark.parametrize(
    "statement",
    [
        "read_cache('a.json')",
        "Cache('a.json').update({'a': 1})",
        "CacheFileChart('a.json').stop()",
        "os.environ['MIROS_CACHE_FILE'] = 'a.json'; read_cache(); Cache()",
        "[os.unlink(name) for name in ('.env', 'miros-cache-net.toml')]; read_cache(); Cache()",
    ],
)
def test_finding_the_file_loads_only_what_it_needs(statement: str, here: Path) -> None:
    Path(".env").write_text("MIROS_CACHE_FILE=b.json\n")
    Path("miros-cache-net.toml").write_text('file = "c.json"\n')
    program = f"import os; os.chdir({str(here)!r})\nfrom miros_cache_net import Cache, CacheFileChart, read_cache\n"
    assert loaded_by(program + statement, {"pydantic", "pydantic_settings", "dotenv", "tomllib", "tomli"}) == set()


def test_file_in_dotenv_is_found_without_settings(here: Path) -> None:
    Path(".env").write_text("MIROS_CACHE_FILE=b.json\n")
    program = f"import os; os.chdir({str(here)!r})\nfrom miros_cache_net import read_cache\n"
    libraries = {"pydantic", "pydantic_settings", "dotenv", "tomllib"}
    assert loaded_by(program + "assert read_cache().file_name == 'b.json'", libraries) == {"dotenv"}
