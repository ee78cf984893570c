"""The kinds of message, in one table: form, sender and answers of each.

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
TRACE_REQUEST: Final = "trace_request"
TRACE: Final = "trace"
CHALLENGE: Final = "challenge"
CHALLENGE_ANSWER: Final = "challenge_answer"
MESH: Final = "mesh"


class Form(Enum):
    """The form of a message, which decides how it may be handled."""

    STATE = "state"
    """Contains all that its sender said before under the same kind: the newest replaces the older ones."""
    NEWS = "news"
    """Adds to what its sender said before: each one counts, and a repeated one does no harm."""
    REQUEST = "request"
    """Makes a node answer, so it is accepted only once."""
    ANSWER = "answer"
    """Counts for the request whose id it carries."""


class Sender(Enum):
    """What may send it."""

    NODE = "node"
    ANYBODY = "anybody"
    """Also a command, which is not a node and may run on the receiver's own host."""


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
        # a peer answers a joining host's digest with its own, which names that id
        Kind(DIGEST, Form.STATE, Sender.NODE, (DIGEST, CACHE_FILE_READ)),
        Kind(ANSWER, Form.ANSWER, Sender.NODE),
        Kind(UNCHANGED, Form.ANSWER, Sender.NODE),
        Kind(STATUS_REQUEST, Form.REQUEST, Sender.ANYBODY, (STATUS,)),
        # its receiver may ask the sender for the document
        Kind(STATUS, Form.ANSWER, Sender.NODE, (CACHE_FILE_READ,)),
        # answered for a while, by any number of messages
        Kind(TRACE_REQUEST, Form.REQUEST, Sender.ANYBODY, (TRACE,)),
        Kind(TRACE, Form.ANSWER, Sender.NODE),
        Kind(CHALLENGE, Form.REQUEST, Sender.ANYBODY, (CHALLENGE_ANSWER,)),
        Kind(CHALLENGE_ANSWER, Form.ANSWER, Sender.NODE),
        # the host that speaks for its fleet in the mesh of `miros-rabbitmq`: what it has heard and said there
        Kind(MESH, Form.NEWS, Sender.NODE),
    )
}


def of_form(form: Form) -> frozenset[str]:
    """The names of the kinds of `form`."""
    return frozenset(kind.name for kind in KINDS.values() if kind.form is form)


#: Kinds of which a host's newest message replaces its older ones.
STATES: Final = of_form(Form.STATE)
#: Kinds that make a node answer.
REQUESTS: Final = of_form(Form.REQUEST)
#: Kinds whose sender expects answers in its own queue.
ASKING: Final = frozenset(kind.name for kind in KINDS.values() if kind.answered_by)
#: Kinds that prove that a node of the fleet is up.
OF_NODES: Final = frozenset(kind.name for kind in KINDS.values() if kind.sender is Sender.NODE)
