"""A host takes a document for too large together with its own just where its file refuses the merge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import DocumentTooLarge
from miros_cache_net.store.changes import Merge
from miros_cache_net.testing import ManualClock
from tests.replicas import Port, in_sync, message

KEYS = [*"abcdef", "k" * 200]


@pytest.fixture(scope="module", autouse=True)
def small_caps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "DOCUMENT_KEYS", 4)
        patched.setattr(limits, "DOCUMENT_BYTES", 900)
        patched.setattr(limits, "TOMBSTONES", 3)
        yield


@st.composite
def documents(draw: st.DrawFn, node: str) -> Document:
    """What fits by itself, above a floor that both hosts know."""
    document = Document.unwritten({}).written({}, Stamp(1000, 0, "gamma"), 1000)
    for number in range(draw(st.integers(1, 4))):
        key = draw(st.sampled_from(KEYS))
        stamp = Stamp(draw(st.integers(1001, 1004)), number, node)
        change = draw(st.sampled_from(["set", "set", "delete"]))
        sets = {key: "x" * draw(st.integers(0, 150))} if change == "set" else {}
        changed = document.updated(sets, () if sets else (key,), stamp, 1000)
        document = document if changed.excess or len(changed.contents) > limits.DOCUMENT_KEYS else changed
    return document


@given(documents("alpha"), documents("beta"))
def test_host_and_its_file_refuse_the_same_merges(mine: Document, theirs: Document) -> None:
    port, clock = Port(), ManualClock()
    host = in_sync(port, clock, mine)
    host.received(message("CACHE", theirs.to_json()), "")
    try:
        merged = Merge(theirs).apply(mine, Stamp(2000, 0, "alpha"), 2000)
    except DocumentTooLarge:
        assert "exceed a cap together" in host.trouble
    else:
        assert "exceed a cap" not in host.trouble
        assert len(merged.to_text()) <= limits.DOCUMENT_BYTES
