"""The numbers that `status --json` and metrics show."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from miros_cache_net.observe import families
from miros_cache_net.observe.registry import Counter, Registry


def test_counting_from_many_threads_loses_nothing() -> None:
    counter = Counter()

    def count() -> None:
        for _ in range(20_000):
            counter.add()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 160_000


def test_same_labels_give_the_same_counter() -> None:
    registry = Registry()
    registry.counter(families.REFUSED, "malformed").add(2)
    registry.labelled(families.REFUSED).add("malformed")
    assert registry.counter(families.REFUSED, "malformed").value == 3


def test_two_registries_do_not_mix() -> None:
    one, other = Registry(), Registry()
    one.counter(families.LINKS_MADE).add()
    assert other.counter(families.LINKS_MADE).value == 0


def test_names_are_those_of_status() -> None:
    registry = Registry()
    registry.gauge(families.FOLLOWERS, lambda: 7)
    registry.labelled(families.RECEIVED).add("CACHE")
    registry.counter(families.LINKS_MADE)
    assert registry.flat() == {"received_CACHE": 1, "links_made": 0, "followers": 7}


def test_labels_must_be_those_of_the_table() -> None:
    with pytest.raises(ValueError, match="refused has 1 labels, not 0"):
        Registry().counter(families.REFUSED)


def test_forgotten_family_is_shown_no_more() -> None:
    registry = Registry()
    registry.gauge(families.FOLLOWERS, lambda: 7)
    registry.forget(families.FOLLOWERS)
    assert registry.flat() == {}


def test_every_family_has_a_unique_name_and_help() -> None:
    names = [family.name for family in families.FAMILIES]
    assert len(set(names)) == len(names)
    assert all(family.help.endswith(".") for family in families.FAMILIES)


def test_page_lists_every_family_as_the_table_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "counters.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| (counter|gauge) \| ([^|]+) \|$", page, re.MULTILINE)
    told = [(name, tuple(re.findall(r"`(\w+)`", labels)), kind == "gauge", help) for name, labels, kind, help in rows]
    assert told == [(each.name, each.labels, each.is_gauge, each.help) for each in families.FAMILIES]
