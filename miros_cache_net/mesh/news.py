"""Reports of the speaking host to the other hosts of its fleet, so that any of them can take over.

The others refuse tokens that it has accepted, and do not repeat what it has said.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

from miros_cache_net import limits
from miros_cache_net.wire.token_window import Mark


class News(NamedTuple):
    """term     the sender's term as speaker, 0 if it no longer speaks (hosts of an earlier build send none, which is 1)
    content  digest of the contents that the old mesh knows, "" if unknown
    marks    tokens of writes that are in the fleet's document
    """

    term: int
    content: str
    marks: tuple[Mark, ...] = ()

    def to_body(self) -> dict[str, Any]:
        """The body of a message of kind `kinds.MESH`."""
        marks = [[mark.made_s, base64.b64encode(mark.part).decode()] for mark in self.marks[-limits.MESH_MARKS :]]
        return {"term": self.term, "content": self.content, "marks": marks}

    @classmethod
    def from_body(cls, body: Any) -> News | None:
        """The news in a message body; None if the body has another form."""
        if not isinstance(body, dict):
            return None
        term, content, marks = body.get("term", 1), body.get("content"), body.get("marks")
        if type(term) is not int or not 0 <= term <= limits.MESH_TERMS or not isinstance(content, str):
            return None
        if not isinstance(marks, list | tuple) or len(marks) > limits.MESH_MARKS:
            return None
        try:
            return cls(term, content, tuple(_mark(*each) for each in marks))
        except (TypeError, ValueError):
            return None


def _mark(made_s: Any, part: Any) -> Mark:
    try:
        data = base64.b64decode(part, validate=True)
    except binascii.Error:
        data = b""
    if type(made_s) is not int or not 0 <= made_s < 2**63 or len(data) != limits.MESH_MARK_BYTES:
        raise ValueError("no mark")
    return Mark(made_s, data)
