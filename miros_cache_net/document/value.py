"""The document as a value: one floor, entries above it, stamps, age and merge.

A document is a state-based replicated data type (a join semilattice; Shapiro et al., "A comprehensive
study of Convergent and Commutative Replicated Data Types", INRIA RR-7506, 2011): a *floor* register and a
map of last-writer-wins entries.  A whole write raises the floor and writes its entries at the floor's
stamp; an entry is visible only if its stamp is at or above the floor, and not deleted.  `Document.merged`
takes the maximum floor and the maximum of each entry, so it is commutative, associative and idempotent.

Stamps are hybrid logical clocks (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014) with the node's
name as tie-breaker.  Two entries with the same stamp (a copied disk image) are ordered by their canonical text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.document import layout, strict_json
from miros_cache_net.document.frozen import FrozenDict, freeze
from miros_cache_net.document.layout import FORMAT, FORMATS, META_KEY
from miros_cache_net.errors import DocumentError, PayloadError


class Stamp(NamedTuple):
    """A hybrid logical time: milliseconds since 1970, a counter below 2**16, and the node that issued it."""

    wall_ms: int
    counter: int
    node: str

    def __str__(self) -> str:
        return f"{self.wall_ms:012x}.{self.counter:04x}.{self.node}"

    @classmethod
    def parse(cls, text: object) -> Stamp:
        """The stamp whose `str` is `text`; raises `DocumentError` for anything else."""
        if not isinstance(text, str):
            raise DocumentError(f"a stamp is a string, not {type(text).__name__}")
        if text == ZERO_TEXT:
            return ZERO
        parts = text.split(".", 2)
        if len(parts) != 3 or len(parts[0]) != 12 or len(parts[1]) != 4 or not is_node_name(parts[2]):
            raise DocumentError(f"{text[:80]!r} is not a stamp")
        try:
            stamp = cls(int(parts[0], 16), int(parts[1], 16), parts[2])
        except ValueError:
            raise DocumentError(f"{text[:80]!r} is not a stamp") from None
        if str(stamp) != text:
            raise DocumentError(f"{text[:80]!r} is not a canonical stamp")
        if stamp.wall_ms > limits.LATEST_STAMP_MS:
            raise DocumentError(f"the stamp {text} lies past the year 2200")
        return stamp


ZERO: Final = Stamp(0, 0, "")
ZERO_TEXT: Final = str(ZERO)
_NODE_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def is_node_name(text: str) -> bool:
    """Lower-case letters, digits and hyphens, 1 to `limits.NODE_NAME_BYTES` of them."""
    return 0 < len(text) <= limits.NODE_NAME_BYTES and _NODE_CHARACTERS.issuperset(text)


def own_time_ms(now_ms: int) -> int:
    """A host's own clock reading, limited to the range from the first millisecond of 1970 to the year 2190."""
    return min(max(1, now_ms), limits.OWN_CLOCK_MS)


def next_stamp(last: Stamp, now_ms: int, node: str) -> Stamp:
    """The stamp of an event on `node` now; `last` is the latest stamp seen (the send rule of an HLC)."""
    if own_time_ms(now_ms) > last.wall_ms:
        return Stamp(own_time_ms(now_ms), 0, node)
    if last.counter < limits.STAMP_COUNTER:
        return Stamp(last.wall_ms, last.counter + 1, node)
    if last.wall_ms < limits.LATEST_STAMP_MS:
        return Stamp(last.wall_ms + 1, 0, node)
    # No stamp is later: further writes share this one, so that none has to fail.
    return max(last, Stamp(last.wall_ms, last.counter, node))


class Floor(NamedTuple):
    """The stamp of the last whole write, and when the contents were discovered (ms since 1970, 0: never)."""

    stamp: Stamp
    discovered_at_ms: int


class Entry(NamedTuple):
    """One top-level key: its stamp, its frozen JSON value, and whether it is a tombstone."""

    stamp: Stamp
    value: Any
    deleted: bool = False

    def order(self) -> tuple[Stamp, bool, bytes]:
        return self.stamp, self.deleted, strict_json.dumps(self.value)


class _Parts(NamedTuple):
    floor: Floor
    entries: Mapping[str, Entry]


class Document(_Parts):
    """An immutable document.

    Build one with `unwritten`, `from_parts` or `from_json`; the methods that change it return a new one.
    """

    # --- what users see ---------------------------------------------------------------------------

    @cached_property
    def contents(self) -> FrozenDict:
        """The visible entries."""
        return FrozenDict((key, entry.value) for key, entry in self.entries.items() if not entry.deleted)

    @property
    def is_written(self) -> bool:
        """True once it was written; False for one just made from a default."""
        return self.floor.stamp != ZERO

    @property
    def is_empty(self) -> bool:
        """Destroyed or never written: it contains no discovery that could have an age."""
        return self.floor.discovered_at_ms == 0

    @property
    def origin(self) -> str:
        """The node that made the last whole write, or the first update of an unwritten document; "" if none did."""
        return self.floor.stamp.node

    def age_s(self, now_ms: int) -> float:
        """Seconds since the contents were discovered, never negative; `inf` if they never were."""
        return layout.age_s(self.floor.discovered_at_ms, now_ms)

    def expired(self, now_ms: int) -> bool:
        """Older than ``time_out_in_minutes``, destroyed, or never written (see `layout.young_between_ms`)."""
        young_from_ms, young_to_ms = layout.young_between_ms(self.contents, self.floor.discovered_at_ms)
        return not young_from_ms <= now_ms <= young_to_ms

    def expires_s(self, now_ms: int) -> float | None:
        """Seconds until it expires, 0 or less once it has; None if it never does, or nobody has discovered it."""
        _, young_to_ms = layout.young_between_ms(self.contents, self.floor.discovered_at_ms)
        if self.is_empty or young_to_ms == math.inf:
            return None
        return (young_to_ms - now_ms) / 1000 if math.isfinite(young_to_ms) else 0.0

    # --- what replicas compare --------------------------------------------------------------------

    @cached_property
    def last_stamp(self) -> Stamp:
        """The greatest stamp in the document."""
        return max((entry.stamp for entry in self.entries.values()), default=self.floor.stamp)

    @cached_property
    def contents_text(self) -> bytes:
        """The contents as canonical JSON."""
        return strict_json.dumps(self.contents)

    @cached_property
    def version(self) -> str:
        """A digest of the whole replicated state: equal on two hosts exactly if they agree."""
        return layout.version_of(self.contents_text, self._meta_text)

    @property
    def face(self) -> layout.Face:
        """The parts that readers use."""
        return layout.Face(self.contents, self.floor.discovered_at_ms, self.origin, self.version)

    def ahead_ms(self, now_ms: int) -> int:
        """How many milliseconds its newest stamp or its discovery, whichever is later, lies after `now_ms`."""
        return max(self.last_stamp.wall_ms, self.floor.discovered_at_ms) - now_ms

    @property
    def excess(self) -> str:
        """Which cap it exceeds, and by how much; "" if none.  Only a merge makes such a document; no file holds one."""
        if len(self.contents) > limits.DOCUMENT_KEYS:
            return f"{len(self.contents)} keys are more than the {limits.DOCUMENT_KEYS} allowed"
        if self._bytes > limits.DOCUMENT_BYTES:
            return f"{self._bytes} bytes of document are more than the {limits.DOCUMENT_BYTES} allowed"
        return ""

    # --- changes ----------------------------------------------------------------------------------

    def written(
        self, contents: Mapping[str, Any], stamp: Stamp, discovered_at_ms: int, text: bytes | None = None
    ) -> Document:
        """The document after a whole write.  If `contents` has `META_KEY`, it is left out.

        text  the canonical JSON of `contents`, if the caller has it
        """
        frozen = _checked(contents)
        entries = {key: Entry(stamp, value) for key, value in frozen.items()}
        document = Document(Floor(stamp, discovered_at_ms), entries)
        if text is not None and frozen is contents:
            # cached_property keeps its values there
            document.__dict__.update(contents=frozen, contents_text=text)
        return document

    def updated(self, changes: Mapping[str, Any], delete: Iterable[str], stamp: Stamp, now_ms: int) -> Document:
        """The document with single keys set and deleted.  It gets no younger; one without a discovery has it now.

        If too much metadata would remain (tombstones, stamps), the update becomes a whole write of the visible entries,
        with the same age: below the new floor none of that metadata is needed.
        """
        gone = frozenset(delete) - {META_KEY}
        frozen = _checked(changes)
        both = gone.intersection(frozen)
        if both:
            raise PayloadError(f"the key {min(both)!r} is both set and deleted")
        begun = self._begun(stamp.node, now_ms)
        entries = dict(begun.entries)
        entries.update((key, Entry(stamp, value)) for key, value in frozen.items())
        entries.update((key, Entry(stamp, None, True)) for key in gone)
        document = Document(begun.floor, entries)
        tombstones = len(entries) - len(document.contents)
        if tombstones > limits.TOMBSTONES or document.excess:
            return document.written(document.contents, stamp, begun.floor.discovered_at_ms)
        return document

    def _begun(self, node: str, now_ms: int) -> Document:
        """The document itself if it has a discovery; else with a discovery now, under a floor below every whole write.

        That floor is the destroy's, or the weakest one a written document can have.  So if two hosts begin
        independently, or after the same destroy, both updates remain.
        """
        if not self.is_empty:
            return self
        discovered_at_ms = max(1, now_ms)
        if self.is_written:
            return Document(Floor(self.floor.stamp, discovered_at_ms), self.entries)
        weakest = Stamp(0, 0, node)
        entries = {key: Entry(weakest, entry.value) for key, entry in self.entries.items()}
        return Document(Floor(weakest, discovered_at_ms), entries)

    def destroyed(self, stamp: Stamp) -> Document:
        """The document emptied on all hosts, and expired."""
        return Document(Floor(stamp, 0), {})

    def merged(self, other: Document) -> Document:
        """The least upper bound of both documents; `self` itself if `other` adds nothing."""
        floor = max(self.floor, other.floor)
        entries = {key: entry for key, entry in self.entries.items() if entry.stamp >= floor.stamp}
        changed = floor != self.floor or len(entries) != len(self.entries)
        for key, entry in other.entries.items():
            mine = entries.get(key)
            if entry.stamp >= floor.stamp and (mine is None or _beats(entry, mine)):
                entries[key] = entry
                changed = True
        return Document(floor, entries) if changed else self

    def capped_merge(self, other: Document) -> tuple[Document, str]:
        """`merged`, and the cap that it exceeds, for the caller to keep `self`; "" if none, or if it adds nothing."""
        merged = self.merged(other)
        return merged, "" if merged is self else merged.excess

    # --- text -------------------------------------------------------------------------------------

    def to_text(self) -> bytes:
        """The canonical text for file and wire: the contents at the top level, then `META_KEY`."""
        if self.excess:
            raise PayloadError(self.excess)
        return layout.text_of(self.contents_text, self._meta_text, self.version)

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {**self.contents, META_KEY: {**self._meta(), "digest": self.version}}

    @classmethod
    def from_json(cls, value: object) -> Document:
        """The inverse of `to_json`; raises `DocumentError` if the metadata is missing or broken."""
        if not isinstance(value, dict) or not isinstance(value.get(META_KEY), dict):
            raise DocumentError("not a document: its metadata is missing")
        return cls.from_parts({key: item for key, item in value.items() if key != META_KEY}, value[META_KEY])

    @classmethod
    def from_parts(cls, contents: Mapping[str, Any], meta: Mapping[str, Any]) -> Document:
        """A document from frozen contents and its metadata, which is checked; `DocumentError` if that is broken."""
        return _from_meta(contents, meta)

    @classmethod
    def unwritten(cls, default: Mapping[str, Any]) -> Document:
        """A document that was never written: it shows `default`, is expired, and loses every merge."""
        return cls(Floor(ZERO, 0), {key: Entry(ZERO, value) for key, value in _checked(default).items()})

    @property
    def _bytes(self) -> int:
        return layout.bytes_of(self.contents_text, self._meta_text)

    @cached_property
    def _meta_text(self) -> bytes:
        return strict_json.dumps(self._meta())

    def _meta(self) -> dict[str, Any]:
        floor = self.floor.stamp
        return {
            "format": FORMAT,
            "floor": str(floor),
            "discovered_at_ms": self.floor.discovered_at_ms,
            "stamps": {
                key: str(entry.stamp)
                for key, entry in self.entries.items()
                if entry.stamp != floor and not entry.deleted
            },
            "deleted": {key: str(entry.stamp) for key, entry in self.entries.items() if entry.deleted},
        }


def _beats(entry: Entry, mine: Entry) -> bool:
    if entry.stamp != mine.stamp:
        return entry.stamp > mine.stamp
    return entry is not mine and entry.order() > mine.order()


def _checked(contents: Mapping[str, Any]) -> FrozenDict:
    if not isinstance(contents, Mapping):
        raise PayloadError(f"a document must be a JSON object, not {type(contents).__name__}")
    if META_KEY in contents:
        contents = {key: value for key, value in contents.items() if key != META_KEY}
    frozen: FrozenDict = contents if type(contents) is FrozenDict else freeze(contents)
    if len(frozen) > limits.DOCUMENT_KEYS:
        raise PayloadError(f"{len(frozen)} keys are more than the {limits.DOCUMENT_KEYS} allowed")
    for key in frozen:
        if len(key) > limits.KEY_BYTES // 4 and len(key.encode()) > limits.KEY_BYTES:
            raise PayloadError(f"the key {key[:40]!r}... is longer than {limits.KEY_BYTES} bytes")
    return frozen


def _from_meta(contents: Mapping[str, Any], meta: Mapping[str, Any]) -> Document:
    if meta.get("format") not in FORMATS:
        raise DocumentError(layout.unknown_format(meta.get("format")))
    discovered_at_ms = meta.get("discovered_at_ms")
    if type(discovered_at_ms) is not int or not 0 <= discovered_at_ms <= limits.LATEST_STAMP_MS:
        raise DocumentError(layout.NO_TIME)
    floor = Stamp.parse(meta.get("floor"))
    stamps, deleted = _stamps(meta, "stamps"), _stamps(meta, "deleted")
    if len(contents) > limits.DOCUMENT_KEYS:
        raise DocumentError(f"more than {limits.DOCUMENT_KEYS} keys")
    entries = {key: Entry(stamps.get(key, floor), item) for key, item in contents.items()}
    if not entries.keys().isdisjoint(deleted) or not entries.keys() >= stamps.keys():
        raise DocumentError("stamps and contents do not match")
    entries.update((key, Entry(stamp, None, True)) for key, stamp in deleted.items())
    if any(entry.stamp < floor for entry in entries.values()):
        raise DocumentError("an entry lies below the floor")
    return Document(Floor(floor, discovered_at_ms), entries)


def _stamps(meta: Mapping[str, Any], field: str) -> dict[str, Stamp]:
    stamps = meta.get(field)
    if not isinstance(stamps, dict):
        raise DocumentError(f"{field} is not an object")
    return {key: Stamp.parse(text) for key, text in stamps.items()}
