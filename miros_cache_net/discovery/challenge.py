"""The challenge: a question that only a node of this fleet, as a holder of the key, can read and answer."""

from __future__ import annotations

import secrets

from miros_cache_net.errors import SettingsError, WireError
from miros_cache_net.fleet.place import Place, place_of, routing_key
from miros_cache_net.settings import Settings
from miros_cache_net.store.sidecar import new_node_name
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import open_ring
from miros_cache_net.wire.kinds import CHALLENGE, CHALLENGE_ANSWER


class NodeChallenge:
    """One question to the nodes at the broker at `address`; see `probe.verdict.Challenge`.

    The answer must repeat that address and this question's nonce, so that it cannot be replayed for another question.
    """

    def __init__(self, gate: Gate, place: Place, address: str) -> None:
        self._gate = gate
        self._body = {"address": address, "nonce": secrets.token_hex(16)}
        sealed = gate.seal(CHALLENGE, self._body)
        self.exchange = place.exchange
        self.routing_key = routing_key(place, CHALLENGE)
        self.key_id = sealed.key_id
        self.body = sealed.body

    def judge(self, answer: bytes) -> bool:
        try:
            message = self._gate.open(answer)
        except WireError:
            return False
        return message.kind == CHALLENGE_ANSWER and message.body == self._body


class Challenger:
    """Makes one chart's questions.  Without a key there is no fleet to ask, and so no question."""

    def __init__(self, settings: Settings, exchange_name: str) -> None:
        self._place: Place | None = None
        if exchange_name != settings.exchange:
            return  # The older mesh, whose programs do not know the challenge.
        try:
            rings = open_ring(settings)
        except SettingsError:
            return
        self._place = place_of(settings, settings.file)
        self._gate = Gate(
            rings,
            scope=self._place.scope,
            document=self._place.document,
            node=new_node_name("scout"),
            host=settings.node_name,
        )

    def question(self, address: str) -> NodeChallenge | None:
        """The question for the nodes at `address`; None if there is no fleet to ask."""
        return None if self._place is None else NodeChallenge(self._gate, self._place, address)
