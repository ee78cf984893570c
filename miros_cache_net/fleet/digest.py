"""What a digest says: which document a host holds, and whether it wants digests in return."""

from __future__ import annotations

from typing import Any, NamedTuple

from miros_cache_net.document.value import Document


class Digest(NamedTuple):
    """The body of a message of kind ``digest``.

    version  version of the sender's document; "" if nobody has written it yet: such documents differ from host to host,
             and there is nothing to agree on
    newest   the greatest stamp in it, as text
    joining  the sender is not in step: hosts that are reply with their own digest and this message's id in `answers`
    apart    merging the sender's document with another host's exceeds a cap: hosts that lack it should ask for it
    answers  ids of the joining digests that this one answers
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
        """The digest in `body`; None if it is not one."""
        if not isinstance(body, dict):
            return None
        version, newest, answers = (body.get(name) for name in ("version", "newest", "answers"))
        if not isinstance(version, str) or not isinstance(newest, str):
            return None
        ids = tuple(each for each in answers if isinstance(each, str)) if isinstance(answers, list) else ()
        return cls(version, newest, body.get("joining") is True, body.get("apart") is True, ids)

    def to_body(self) -> dict[str, Any]:
        """Defaults are left out: a fleet in agreement sends many digests."""
        body: dict[str, Any] = {"version": self.version, "newest": self.newest}
        flags = {name: True for name in ("joining", "apart") if getattr(self, name)}
        return {**body, **flags, **({"answers": list(self.answers)} if self.answers else {})}


def version_of(document: Document) -> str:
    """The version that hosts compare; "" for a document that nobody has written."""
    return document.version if document.is_written else ""
