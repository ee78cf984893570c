"""Hosts that change one document, hear each other's, and have clocks that are wrong: with who knew what when."""

from __future__ import annotations

from typing import Any, NamedTuple

from miros_cache_net import limits
from miros_cache_net.document.value import ZERO, Document, Stamp, next_stamp, own_time_ms
from miros_cache_net.errors import DocumentTooLarge
from miros_cache_net.store.changes import Destroy, Merge, Update, Write, update_of, write_of

START_MS = 1_700_000_000_000


class Done(NamedTuple):
    """A change that was acknowledged.

    number    its place in the history, and the value that it writes
    keys      the keys that it sets or deletes
    is_whole  it replaced the document, as an update does that leaves too many deleted keys
    carried   of an update that replaced the document: the changes whose values it wrote again
    past      the changes that its host's file held when it was made
    """

    number: int
    kind: str
    keys: frozenset[str]
    is_whole: bool
    carried: frozenset[Any]
    past: frozenset[int]

    def beats(self, other: Done) -> bool:
        """Whether it may be what `other` was lost to."""
        return self.number not in other.past and self is not other and (self.is_whole or bool(self.keys & other.keys))

    def overwrites(self, other: Done) -> bool:
        """Whether nothing of `other` may be seen where this one has been heard of."""
        if other.number not in self.past:
            return False
        return self.kind in ("write", "destroy") or other.keys <= self.keys


class Host(NamedTuple):
    """A host's file: its document, the greatest stamp in its lock file, and the changes that are in it."""

    name: str
    document: Document
    seen: Stamp = ZERO
    past: frozenset[int] = frozenset()

    def changed(self, number: int, kind: str, key: str, now_ms: int) -> tuple[Host, Done]:
        """After a change of this host: "update" or "delete" of a key, "write" of all keys, "destroy"."""
        change: Update | Write | Destroy
        if kind == "write":
            change = write_of(dict.fromkeys(("a", "b"), number))
        elif kind == "destroy":
            change = Destroy()
        else:
            change = update_of({key: number}) if kind == "update" else update_of({}, [key])
        stamp = next_stamp(max(self.document.last_stamp, self.seen), now_ms, self.name)
        document = change.apply(self.document, stamp, own_time_ms(now_ms))
        is_of_keys = kind in ("update", "delete")
        # an update that could just as well have been one must not count as a whole write
        is_whole = not is_of_keys or _deleted_after(self.document, kind, key) > limits.TOMBSTONES
        carried = frozenset(document.contents.values()) if is_whole and is_of_keys else frozenset[Any]()
        keys = frozenset([key]) if is_of_keys else frozenset(("a", "b"))
        done = Done(number, kind, keys, is_whole, carried, self.past)
        return Host(self.name, document, max(stamp, self.seen), self.past | {number}), done

    def heard(self, other: Host) -> Host:
        """After it was offered what `other` holds, or held."""
        seen = max(self.seen, other.document.last_stamp)
        if not other.document.is_written:
            return self
        try:
            document = Merge(other.document).apply(self.document, seen, 0)
        except DocumentTooLarge:
            return self._replace(seen=seen)
        return Host(self.name, document, seen, self.past | other.past)


def check_promise(final: Document, history: list[Done]) -> None:
    """Nothing acknowledged is lost but to what may beat it, and what was overwritten stays so."""
    contents = final.contents
    for each in history:
        if each.kind in ("update", "delete"):
            is_kept = all(_shows(contents, each, key) for key in each.keys)
            assert is_kept or any(other.beats(each) for other in history), f"{each} is lost to nothing"
    for later in history:
        for each in history:
            carried = any(each.number in other.carried and later.number not in other.past for other in history)
            if each.kind in ("update", "write") and later.overwrites(each) and not carried:
                assert each.number not in contents.values(), f"{each} is back after {later}"
    of_whole_writes = {each.number for each in history if each.kind == "write"} & set(contents.values())
    assert len(of_whole_writes) <= 1, f"a mixture of the whole writes {of_whole_writes}"


def _deleted_after(document: Document, kind: str, key: str) -> int:
    deleted = {each for each, entry in document.entries.items() if entry.deleted}
    return len(deleted | {key}) if kind == "delete" else len(deleted - {key})


def _shows(contents: dict[str, Any], each: Done, key: str) -> bool:
    return contents.get(key) == each.number if each.kind == "update" else key not in contents
