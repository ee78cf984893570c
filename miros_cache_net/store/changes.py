"""The changes to a document, as values: any caller builds them; they are applied inside the exclusive access."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import FrozenDict
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import DocumentTooLarge, PayloadError, Superseded


class Change(Protocol):
    """A request to change the document."""

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        """The changed document, or `document` itself if nothing changes.

        `stamp` is later than every stamp that this host has seen; `now_ms` is its clock reading, limited by
        `own_time_ms`.  Raises `PayloadError` if the change is impossible.
        """


class Beginning(NamedTuple):
    """The moment when a discovery began.

    stamp   the stamp of its result; it counts as issued, so every later stamp of this host is greater
    floor   the floor's stamp at that moment: if it has changed at the end, the discovery is superseded
    now_ms  this host's clock reading
    """

    stamp: Stamp
    floor: Stamp
    now_ms: int


class Begin:
    """A discovery begins: the document does not change, and `began` is called with the `Beginning`, inside the access.

    A chart that gets no access calls `began` with None.
    """

    def __init__(self, began: Callable[[Beginning | None], object]) -> None:
        self.began = began

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        self.began(Beginning(stamp, document.floor.stamp, now_ms))
        return document


class Write(NamedTuple):
    """A whole write of the contents, discovered now.

    `began`: the contents are the result of a discovery that began then, and their age counts from then.  Raises
    `Superseded` if a whole write came after it, whatever the stamps say: a paused discovery must not overwrite another.
    `text`: the contents as canonical JSON.
    `keeps`: tells by its name whether another key of the document stays beside the result; None: none stays.
    """

    contents: FrozenDict
    text: bytes
    began: Beginning | None = None
    keeps: Callable[[str], bool] | None = None

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        began = self.began
        if began is None:
            return document.written(self.contents, stamp, now_ms, self.text)
        floor = document.floor.stamp
        # A floor at wall time 0 comes from a first update, which is not a whole write.
        if floor != began.floor and floor.wall_ms:
            raise Superseded("superseded: another result was written while this discovery was running")
        # With the discovery's stamp: writes to these keys since it began are later, and stay.
        kept = {key: value for key, value in document.contents.items() if self.keeps and self.keeps(key)}
        contents = {**kept, **self.contents} if kept else self.contents
        return document.merged(document.written(contents, began.stamp, min(began.now_ms, now_ms)))


class Update(NamedTuple):
    """An update of single keys."""

    changes: FrozenDict
    delete: frozenset[str] = frozenset()

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        return document.updated(self.changes, self.delete, stamp, now_ms)


class Destroy:
    """Empty the document on all hosts."""

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        return document.destroyed(stamp)


class Merge(NamedTuple):
    """A merge of the document that another host sent.

    If both documents together exceed a cap, `apply` raises `DocumentTooLarge` and the file is unchanged; the code that
    carries the change out then calls `refused` with that error.
    """

    document: Document
    refused: Callable[[DocumentTooLarge], None] | None = None

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        merged, excess = document.capped_merge(self.document)
        if excess:
            raise DocumentTooLarge(
                f"this host's document and another host's exceed a cap together: {excess}; "
                "to fix it, write the whole document on any host"
            )
        return merged


class Modify(NamedTuple):
    """A change by a function, which receives a dict of its own and returns the new contents.

    Equal contents are no change if the document was written before: nothing is stored, and it gets no younger.
    """

    function: Callable[[dict[str, Any]], Mapping[str, Any]]

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        contents, text = _frozen(self.function(copy.deepcopy(document.contents)))
        if document.is_written and text == document.contents_text:
            return document
        return document.written(contents, stamp, now_ms, text)


class AddressedChange(NamedTuple):
    """A change and the absolute path of its file: the payload of `CACHE_FILE_WRITE` from our own charts.

    over  called on the chart's thread: with None once the change is on the disk, or with the error that prevents it
    """

    change: Change
    file_path: str
    over: Callable[[Exception | None], None] | None = None


def write_of(
    value: str | bytes | Mapping[str, Any],
    began: Beginning | None = None,
    keeps: Callable[[str], bool] | None = None,
) -> Write:
    """The whole write of a mapping, or of a JSON object as text; raises `PayloadError` for anything else."""
    return Write(*_frozen(value), began, keeps)


def update_of(changes: Mapping[str, Any], delete: Iterable[str] = ()) -> Update:
    """The update of single keys; raises `PayloadError` if they cannot be JSON."""
    if isinstance(delete, str):
        raise PayloadError("delete must be a list of keys, not a string")
    keys = frozenset(delete)
    if not all(isinstance(key, str) for key in keys):
        raise PayloadError("the keys to delete must be strings")
    return Update(as_contents(changes), keys)


def as_contents(value: object) -> FrozenDict:
    """A frozen, checked copy of a document's contents; raises `PayloadError` with the reason."""
    return _frozen(value)[0]


def _frozen(value: object) -> tuple[FrozenDict, bytes]:
    """As `as_contents`, with the canonical text."""
    if isinstance(value, (str, bytes)):
        try:
            value = strict_json.loads(value)
        except ValueError as error:
            raise PayloadError(f"the contents cannot be written: {error}") from None
    if not isinstance(value, Mapping):
        raise PayloadError(f"a document must be a JSON object, not {type(value).__name__}")
    return strict_json.frozen_copy(value)
