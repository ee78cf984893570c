"""What can be done to a document, as values: built by whoever asks, applied inside the exclusive access."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import FrozenDict
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import DocumentTooLarge, PayloadError, Superseded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple, Protocol
else:
    from miros_cache_net.named_tuple import NamedTuple

    Protocol = object


class Change(Protocol):
    """One request to change the document."""

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        """The changed document, or `document` itself where nothing changes.

        `stamp` is later than every stamp that this host has seen, `now_ms` what its clock counts for.  Raises
        `PayloadError` where it cannot be done.
        """


class Beginning(NamedTuple):
    """When a discovery began.

    stamp   of its result; it counts as given, so that all that this host does afterwards is later
    floor   the floor's stamp at that moment: where it is another at the end, the discovery is superseded
    now_ms  what this host's clock showed
    """

    stamp: Stamp
    floor: Stamp
    now_ms: int


class Begin:
    """A discovery begins: nothing is changed, and `began` is called with the `Beginning`, inside the access.

    A chart that gets no access calls it with None.
    """

    def __init__(self, began: Callable[[Beginning | None], object]) -> None:
        self.began = began

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        self.began(Beginning(stamp, document.floor.stamp, now_ms))
        return document


class Write(NamedTuple):
    """The whole contents, discovered now.

    `began`: they are the result of a discovery that began then, which is when they count from.  `Superseded` if the
    document was written as a whole since, whatever the stamps say: a discovery that slept overwrites no other.
    `text`: the contents as canonical JSON.
    """

    contents: FrozenDict
    text: bytes
    began: Beginning | None = None

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        began = self.began
        if began is None:
            return document.written(self.contents, stamp, now_ms, self.text)
        floor = document.floor.stamp
        # a floor at wall time 0 is that of a first update, which is no whole write
        if floor != began.floor and floor.wall_ms:
            raise Superseded("superseded: another result was written while this one was being discovered")
        return document.merged(document.written(self.contents, began.stamp, min(began.now_ms, now_ms)))


class Update(NamedTuple):
    """Single keys."""

    changes: FrozenDict
    delete: frozenset[str] = frozenset()

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        return document.updated(self.changes, self.delete, stamp, now_ms)


class Destroy:
    """Empty it for everybody."""

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        return document.destroyed(stamp)


class Merge(NamedTuple):
    """What another host sent.

    `refused` is called, by who carries the change out, with the `DocumentTooLarge` that `apply` raised: both documents
    together pass a cap, the file stays as it is.
    """

    document: Document
    refused: Callable[[DocumentTooLarge], None] | None = None

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        merged, excess = document.capped_merge(self.document)
        if excess:
            raise DocumentTooLarge(
                f"what another host holds and what this one holds pass a cap together: {excess}; "
                "to mend it, write the whole document on any host"
            )
        return merged


class Modify(NamedTuple):
    """The contents through a function, which gets a dict of its own and returns the new contents.

    Contents that were written before and come back equal are no change: nothing is stored, nothing gets younger.
    """

    function: Callable[[dict[str, Any]], Mapping[str, Any]]

    def apply(self, document: Document, stamp: Stamp, now_ms: int) -> Document:
        contents, text = _frozen(self.function(copy.deepcopy(document.contents)))
        if document.is_written and text == document.contents_text:
            return document
        return document.written(contents, stamp, now_ms, text)


class AddressedChange(NamedTuple):
    """A change and the absolute path of the file that it is for: what our own charts put into `CACHE_FILE_WRITE`."""

    change: Change
    file_path: str


def write_of(value: str | bytes | Mapping[str, Any], began: Beginning | None = None) -> Write:
    """The whole write of a mapping, or of a JSON object as text; `PayloadError` for anything else."""
    return Write(*_frozen(value), began)


def update_of(changes: Mapping[str, Any], delete: Iterable[str] = ()) -> Update:
    """The update of single keys; `PayloadError` where they cannot be JSON."""
    if isinstance(delete, str):
        raise PayloadError("delete is a list of keys, not one text")
    keys = frozenset(delete)
    if not all(isinstance(key, str) for key in keys):
        raise PayloadError("the keys to delete must be text")
    return Update(as_contents(changes), keys)


def as_contents(value: object) -> FrozenDict:
    """A frozen copy of a document's contents, checked; `PayloadError` says what is wrong."""
    return _frozen(value)[0]


def _frozen(value: object) -> tuple[FrozenDict, bytes]:
    """The same, and its canonical text."""
    if isinstance(value, (str, bytes)):
        try:
            value = strict_json.loads(value)
        except ValueError as error:
            raise PayloadError(f"the contents are {error}") from None
    if not isinstance(value, Mapping):
        raise PayloadError(f"a document is a JSON object, not {type(value).__name__}")
    return strict_json.frozen_copy(value)
