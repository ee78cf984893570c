"""The kinds of message, in one table: what each is, who sends it, and what answers it.

Every other list of kinds derives from `KINDS`.  Names from outside are compared with these and never become signals.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

CACHE: Final = "CACHE"
CACHE_FILE_WRITE: Final = "CACHE_FILE_WRITE"
CACHE_FILE_READ: Final = "CACHE_FILE_READ"
DIGEST: Final = "digest"
ANSWER: Final = "answer"
UNCHANGED: Final = "unchanged"
STATUS_REQUEST: Final = "status_request"
STATUS: Final = "status"
CHALLENGE: Final = "challenge"
CHALLENGE_ANSWER: Final = "challenge_answer"


class Form(Enum):
    """What a message is, which decides how it may be treated on its way."""

    STATE = "state"
    """Holds all of what its sender said before under the same kind: the newest takes the place of the older ones."""
    REQUEST = "request"
    """Makes a node answer, so it is taken once."""
    ANSWER = "answer"
    """Counts for the request whose id it carries."""


class Sender(Enum):
    """Who may send it."""

    NODE = "node"
    ANYBODY = "anybody"
    """A command too, which is no node and may run on the hearer's own host."""


class Kind(NamedTuple):
    """One kind of message; `answered_by`: the kinds that come back."""

    name: str
    form: Form
    sender: Sender
    answered_by: tuple[str, ...] = ()


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(CACHE, Form.STATE, Sender.NODE),
        Kind(CACHE_FILE_WRITE, Form.STATE, Sender.ANYBODY),
        Kind(CACHE_FILE_READ, Form.REQUEST, Sender.ANYBODY, (ANSWER, UNCHANGED)),
        # one of a joining host is answered by a peer's own, which names its id
        Kind(DIGEST, Form.STATE, Sender.NODE, (DIGEST, CACHE_FILE_READ)),
        Kind(ANSWER, Form.ANSWER, Sender.NODE),
        Kind(UNCHANGED, Form.ANSWER, Sender.NODE),
        Kind(STATUS_REQUEST, Form.REQUEST, Sender.ANYBODY, (STATUS,)),
        # who has it may ask its sender for the document
        Kind(STATUS, Form.ANSWER, Sender.NODE, (CACHE_FILE_READ,)),
        Kind(CHALLENGE, Form.REQUEST, Sender.ANYBODY, (CHALLENGE_ANSWER,)),
        Kind(CHALLENGE_ANSWER, Form.ANSWER, Sender.NODE),
    )
}


def of_form(form: Form) -> frozenset[str]:
    """The names of the kinds of `form`."""
    return frozenset(kind.name for kind in KINDS.values() if kind.form is form)


#: The newest of a host takes the place of its older ones.
STATES: Final = of_form(Form.STATE)
#: Those that make a node answer.
REQUESTS: Final = of_form(Form.REQUEST)
#: Those whose sender wants to be reached in its own queue.
ASKING: Final = frozenset(kind.name for kind in KINDS.values() if kind.answered_by)
#: Those that prove that a node of the fleet is there.
OF_NODES: Final = frozenset(kind.name for kind in KINDS.values() if kind.sender is Sender.NODE)
