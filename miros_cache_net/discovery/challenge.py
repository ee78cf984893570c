"""Is a node of this fleet at that broker?  A question that only a holder of the key can read and answer."""

from __future__ import annotations

import secrets

from miros_cache_net.amqp import topology
from miros_cache_net.amqp.link import Place
from miros_cache_net.errors import SettingsError, WireError
from miros_cache_net.settings import Settings
from miros_cache_net.store.sidecar import new_node_name
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import open_ring
from miros_cache_net.wire.kinds import CHALLENGE, CHALLENGE_ANSWER


class NodeChallenge:
    """One question to the nodes at the broker behind `address`; see `probe.verdict.Challenge`.

    The answer has to name that address and this question's nonce, so that none can be used for another.
    """

    def __init__(self, gate: Gate, place: Place, address: str) -> None:
        self._gate = gate
        self._body = {"address": address, "nonce": secrets.token_hex(16)}
        sealed = gate.seal(CHALLENGE, self._body)
        self.exchange = place.exchange
        self.routing_key = topology.routing_key(place, CHALLENGE)
        self.key_id = sealed.key_id
        self.body = sealed.body

    def judge(self, answer: bytes) -> bool:
        try:
            message = self._gate.open(answer)
        except WireError:
            return False
        return message.kind == CHALLENGE_ANSWER and message.body == self._body


class Challenger:
    """Makes the questions of one chart.  Without a key there is no fleet to ask, and no question."""

    def __init__(self, settings: Settings, exchange_name: str) -> None:
        self._place: Place | None = None
        if exchange_name != settings.exchange:
            return  # the older mesh, whose programs know no such question
        try:
            rings = open_ring(settings)
        except SettingsError:
            return
        self._place = topology.place_of(settings, settings.file)
        self._gate = Gate(
            rings,
            scope=self._place.scope,
            document=self._place.document,
            node=new_node_name("scout"),
            host=settings.node_name,
        )

    def question(self, address: str) -> NodeChallenge | None:
        """For the node at `address`; None where none is to be asked."""
        return None if self._place is None else NodeChallenge(self._gate, self._place, address)
