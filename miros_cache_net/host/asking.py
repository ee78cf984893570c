"""One question to the bridge of this host, from a program that is no follower of it."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Any

from miros_cache_net import limits
from miros_cache_net.errors import HostProtocolError
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.admission import Admission
from miros_cache_net.host.channel import Channel
from miros_cache_net.host.messages import Ask, Hello, Reply, encode, from_bridge


def ask_bridges(document: Path, what: str, timeout_s: float) -> list[Any]:
    """What the bridges of this host that guard `document` answer, one for each fleet; [] where there is none.

    Blocks the caller for at most `timeout_s` each.  A bridge that does not answer, or says what stood in the way,
    is left out.
    """
    answers = []
    for lock in sorted(document.parent.glob(f".{document.name}.bridge-*.lock")):
        reply = _ask(lock, what, timeout_s)
        if reply is not None and not reply.error:
            answers.append(reply.value)
    return answers


def _ask(lock: Path, what: str, timeout_s: float) -> Reply | None:
    deadline_s = time.monotonic() + timeout_s
    try:
        channel = Channel(SocketAddress(lock).connect(), limits.HOST_ANSWER_BYTES)
    except OSError:
        return None
    try:
        if not Admission.as_for(os.stat(lock)).admits(channel.connection):
            return None
        channel.send(encode(Hello()) + encode(Ask(1, what, timeout_s)))
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        while (left_s := deadline_s - time.monotonic()) > 0:
            bodies = channel.receive() if poll.poll(left_s * 1000) else []
            if bodies is None:
                return None
            for message in map(from_bridge, bodies):
                if isinstance(message, Reply):
                    return message
    except (OSError, HostProtocolError):
        pass  # no bridge that could be asked
    finally:
        channel.close()
    return None
