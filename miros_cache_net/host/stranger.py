"""How a program that is not a follower asks the fleet through this host's bridge, or asks for the bridge's state."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from functools import partial
from pathlib import Path
from typing import TypeVar

from miros_cache_net import limits
from miros_cache_net.errors import HostProtocolError
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.admission import Admission
from miros_cache_net.host.asking import Asking
from miros_cache_net.host.channel import Channel
from miros_cache_net.host.messages import HEALTH, Ask, Hello, Reply, State, encode, from_bridge
from miros_cache_net.host.questions import Answer, Question

_Wanted = TypeVar("_Wanted", Reply, State)


class _Silent(Exception):
    """A process listens but gives no usable answer; the message says why."""


def fleets_of(document: Path) -> list[Asking]:
    """The fleets that share `document`, each asked through its bridge on this host; [] if there is none.

    A question blocks the asker's thread until the answer or the asker's time-out.
    """
    return [Asking(partial(_answer, lock)) for lock in _locks(document)]


def bridge_states(document: Path, timeout_s: float) -> list[State]:
    """The states of this host's bridges for `document`, of those that answer within `timeout_s` each."""
    states = []
    for lock in _locks(document):
        try:
            states.append(_ask(lock, encode(Hello()), State, timeout_s))
        except (OSError, _Silent):
            continue
    return states


def health_of(document: Path, timeout_s: float) -> list[Answer]:
    """The health of each bridge of this host for `document`; an error for one that does not answer in `timeout_s`.

    [] if no process listens: no node of this host runs.
    """
    answers = []
    said = encode(Hello()) + encode(Ask(1, HEALTH, timeout_s))
    for lock in _locks(document):
        try:
            answers.append(Answer(*_ask(lock, said, Reply, timeout_s)[1:]))
        except (FileNotFoundError, ConnectionRefusedError):
            continue  # left over from a bridge that is gone
        except (OSError, _Silent) as error:
            answers.append(Answer(None, f"the bridge of this host does not answer ({error}): is its process stopped?"))
    return answers


def served_beside(document: Path) -> list[Path]:
    """The other documents in the directory of `document` that a node of this host serves."""
    locks = document.parent.glob(".*.bridge-*.lock")
    served = {lock.name[1:].rpartition(".bridge-")[0] for lock in locks if _is_served(lock)}
    return [document.with_name(name) for name in sorted(served - {document.name})]


def unserved_locks(document: Path) -> list[Path]:
    """The bridge locks for `document` that a process holds without a socket: its followers watch the file instead."""
    return [lock for lock in _locks(document) if _is_held(lock) and not _is_served(lock)]


def _is_held(lock: Path) -> bool:
    with contextlib.suppress(OSError):
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def _is_served(lock: Path) -> bool:
    try:
        SocketAddress(lock).connect().close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True  # a process listens, but is busy
    return True


def _locks(document: Path) -> list[Path]:
    return sorted(document.parent.glob(f".{document.name}.bridge-*.lock"))


def _answer(lock: Path, question: Question) -> None:
    timeout_s = min(question.deadline_s - time.monotonic(), limits.HOST_QUESTION_S)
    try:
        reply = _ask(lock, encode(Hello()) + encode(Ask(1, question.what, timeout_s)), Reply, timeout_s)
        question.done(Answer(reply.value, reply.error))
    except (OSError, _Silent):
        question.done(Answer(None, "no bridge of this host answers"))


def _ask(lock: Path, said: bytes, wanted: type[_Wanted], timeout_s: float) -> _Wanted:
    """The first message of type `wanted` that the bridge behind `lock` sends after it got the bytes `said`.

    Raises `OSError` if no process can be reached, `_Silent` if the process gives no usable answer.
    """
    deadline_s = time.monotonic() + timeout_s
    channel = Channel(SocketAddress(lock).connect(), limits.HOST_ANSWER_BYTES)
    try:
        if not Admission.as_for(os.stat(lock)).admits(channel.connection):
            raise _Silent("a process of another user has put its socket there")
        channel.send(said)
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        while (left_s := deadline_s - time.monotonic()) > 0:
            bodies = channel.receive() if poll.poll(left_s * 1000) else []
            if bodies is None:
                raise _Silent("it closed the connection: it is ending, or is of another release")
            for message in map(from_bridge, bodies):
                if isinstance(message, wanted):
                    return message
        raise _Silent(f"no answer in {timeout_s:g} s")
    except HostProtocolError as error:
        raise _Silent(str(error)) from None
    finally:
        channel.close()
