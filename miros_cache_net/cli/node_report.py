"""What happens to a node, as lines for people or as JSON for programs."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from miros_cache_net.cli.cache_file import count_text, payload_json
from miros_cache_net.cli.describe import age_line, difference
from miros_cache_net.cli.output import print_json, print_line
from miros_cache_net.events import (
    AMQP_CONSUMER_CHECK,
    CACHE,
    CACHE_ERROR,
    CONNECTION_DISCOVERY,
    LAN_RECCE_COMPLETE,
    LAN_RECCE_PROGRESS,
)
from miros_cache_net.payloads import (
    AMQPConsumerCheckPayload,
    CacheErrorPayload,
    CacheReadPayload,
    ConnectionDiscoveryPayload,
    RecceCompletePayload,
    RecceProgressPayload,
)

if TYPE_CHECKING:
    from miros_cache_net.node import CacheNode

#: How often role and link are polled beside the events; also bounds how late a signal is seen.
_LOOK_EVERY_S: Final = 1.0

#: A signal's name and its payload; None ends the report.
Happening = tuple[str, Any] | None


class NodeReport:
    """Prints what happens to a node; for use on one thread.

    happenings  the queue that receives the events of `HEARD`
    """

    def __init__(self, node: CacheNode, as_json: bool) -> None:
        self._node = node
        self._as_json = as_json
        self._role = ""
        self._connected = False
        self._last = CacheReadPayload({}, 0.0, "", True, "")
        self._recce: Any = None
        self._peers: list[str] | None = None
        self._tellers: dict[str, Callable[[Any], None]] = {
            CACHE: self._cache,
            CACHE_ERROR: self._error,
            LAN_RECCE_PROGRESS: self._discovering,
            LAN_RECCE_COMPLETE: self._discovered,
            AMQP_CONSUMER_CHECK: self._scouted,
            CONNECTION_DISCOVERY: self._found,
        }

    def follow(self, happenings: queue.SimpleQueue[Happening]) -> None:
        """Report until the queue yields None."""
        status = self._node.status()
        place = f"scope {status['scope']!r}, document {status['document']!r}, key {status['keys'][0]}"
        self._say("started", f"node {status['node']} keeps {self._node.file_chart.path}; {place}", status)
        while True:
            try:
                happening = happenings.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                self._look()
                continue
            if happening is None:
                self._say("stopping", "stopping", {})
                return
            self._look()
            signal_name, payload = happening
            self._tellers[signal_name](payload)

    def _look(self) -> None:
        """Report role and link where they have changed."""
        status = self._node.status()
        if status["role"] != self._role:
            self._role = status["role"]
            texts = {"bridge": "this process links this host to the broker", "follower": "follows this host's bridge"}
            self._say("role", texts[self._role], status)
        if status["connected"] != self._connected:
            self._connected = status["connected"]
            through = f" through {status['broker']}" if status["broker"] else ""
            text = f"in step with the fleet{through}" if self._connected else "out of touch with the fleet"
            self._say("connected" if self._connected else "disconnected", text, status)

    # --- events -----------------------------------------------------------------------------------------

    def _cache(self, payload: CacheReadPayload) -> None:
        before = self._last
        if payload.file_path != self._node.file_chart.file_path or payload.version == before.version:
            return
        self._last = payload
        what = difference(before, payload) if before.version else count_text(len(payload.dict), "key")
        self._say("cache", f"{what}; {age_line(payload)}", payload_json(payload))

    def _error(self, payload: CacheErrorPayload) -> None:
        if self._as_json:  # for people, the log has it
            self._say("error", "", payload._asdict())

    def _discovering(self, payload: RecceProgressPayload) -> None:
        """Report a recce's first step only."""
        if payload.request != self._recce:
            self._recce = payload.request
            whom = f"{payload.total} addresses of this machine's networks"
            if payload.step != "sweep":
                whom = count_text(payload.total, "host")
            self._say("discovering", f"discovering: asking {whom}", {"total": payload.total})

    def _scouted(self, payload: AMQPConsumerCheckPayload) -> None:
        verdict = "usable" if payload.result else f"not usable, {payload.reason}"
        about = f": {payload.detail}" if payload.detail else ""
        self._say("scouted", f"scouted {payload.ip_address}: {verdict}{about}", payload._asdict())

    def _discovered(self, payload: RecceCompletePayload) -> None:
        asked = payload.swept or len(payload.checks)
        text = f"discovered {count_text(len(payload.other_addresses), 'usable broker')} among {asked}"
        text = f"could not discover: {payload.failed}" if payload.failed else "; ".join([text, *payload.declined])
        facts = {"asked": asked, "failed": payload.failed, "declined": list(payload.declined)}
        self._say("discovered", text, {"hosts": payload.other_addresses, **facts})

    def _found(self, payload: ConnectionDiscoveryPayload) -> None:
        """Report the hosts, never the URLs: those hold the password."""
        if payload.hosts != self._peers:
            self._peers = payload.hosts
            self._say("peers", f"peers: {', '.join(payload.hosts) or 'none'}", {"hosts": payload.hosts})

    def _say(self, what: str, text: str, facts: Mapping[str, Any]) -> None:
        if self._as_json:
            print_json({"what": what, "at": time.time(), **facts})
        else:
            print_line(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")


#: The signals that are reported.
HEARD: Final = (
    CACHE,
    CACHE_ERROR,
    LAN_RECCE_PROGRESS,
    LAN_RECCE_COMPLETE,
    AMQP_CONSUMER_CHECK,
    CONNECTION_DISCOVERY,
)
