"""What a digest says: which document a host holds, and whether it wants to hear of another's."""

from __future__ import annotations

from typing import Any, NamedTuple

from miros_cache_net.document.value import Document


class Digest(NamedTuple):
    """The body of a message of kind ``digest``.

    version  of the sender's document; "" for one that nobody wrote, which differs from host to host and is nothing to
             agree on
    newest   the greatest stamp in it, as text
    joining  the sender is not in step: whoever is says its own digest, with this message's id among `answers`
    apart    the sender's document passes a cap together with another host's: whoever has not met it should ask for it
    answers  the ids of the joining digests that this one answers
    """

    version: str
    newest: str
    joining: bool = False
    apart: bool = False
    answers: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, document: Document, *, joining: bool = False, apart: bool = False, answers: tuple[str, ...] = ()
    ) -> Digest:
        newest = max(document.last_stamp, document.floor.stamp)
        return cls(version_of(document), str(newest), joining, apart, answers)

    @classmethod
    def from_body(cls, body: object) -> Digest | None:
        """None where that is no digest."""
        if not isinstance(body, dict):
            return None
        version, newest, answers = (body.get(name) for name in ("version", "newest", "answers"))
        if not isinstance(version, str) or not isinstance(newest, str):
            return None
        ids = tuple(each for each in answers if isinstance(each, str)) if isinstance(answers, list) else ()
        return cls(version, newest, body.get("joining") is True, body.get("apart") is True, ids)

    def to_body(self) -> dict[str, Any]:
        """Only what is not as usual is named: a fleet in agreement says many of these."""
        body: dict[str, Any] = {"version": self.version, "newest": self.newest}
        flags = {name: True for name in ("joining", "apart") if getattr(self, name)}
        return {**body, **flags, **({"answers": list(self.answers)} if self.answers else {})}


def version_of(document: Document) -> str:
    """What hosts compare."""
    return document.version if document.is_written else ""
