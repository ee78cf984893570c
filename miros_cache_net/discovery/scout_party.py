"""Scouts many addresses at once, without a thread for each; `LanRecceChart` and `ManNetChart` decide when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from miros_cache_net import limits
from miros_cache_net.discovery.challenge import Challenger
from miros_cache_net.discovery.probe.prober import ProbeHandle, Prober, ProbeResult, Verdict
from miros_cache_net.discovery.probe.target import target_for
from miros_cache_net.discovery.scout import check_of
from miros_cache_net.payloads import AMQPConsumerCheckPayload
from miros_cache_net.settings import Settings

#: Called with a peer and its result, on the prober's thread or in `go_on`; has to pass both to `ScoutParty.answered` on
#: the owner's thread.
Answer = Callable[[str, ProbeResult], None]


class ScoutParty:
    """One round of scouts, for one thread.

    peers   ``host`` or ``host:port``; duplicates count once

    At most `limits.SCOUTS_AT_ONCE` are under way at a time, which also bounds the results that wait for the owner.
    """

    def __init__(
        self,
        peers: Iterable[str],
        routing_key: str,
        exchange_name: str,
        settings: Settings,
        prober: Prober,
        answer: Answer,
    ) -> None:
        self.peers = tuple(dict.fromkeys(peers))
        self.checks: dict[str, AMQPConsumerCheckPayload] = {}
        self._routing_key, self._exchange_name = routing_key, exchange_name
        self._settings, self._prober, self._answer = settings, prober, answer
        self._challenger = Challenger(settings, exchange_name)
        self._waiting = deque(self.peers)
        self._under_way: dict[str, ProbeHandle | None] = {}

    @property
    def complete(self) -> bool:
        return len(self.checks) == len(self.peers)

    @property
    def found(self) -> list[str]:
        """The peers with a compatible consumer, in the given order."""
        return [peer for peer in self.peers if peer in self.checks and self.checks[peer].result]

    def go_on(self) -> None:
        """Start as many scouts as the bound allows."""
        while self._waiting and len(self._under_way) < limits.SCOUTS_AT_ONCE:
            self._send(self._waiting.popleft())

    def answered(self, peer: str, result: ProbeResult) -> AMQPConsumerCheckPayload:
        """Record the result of one scout; returns the payload for `AMQP_CONSUMER_CHECK`."""
        self._under_way.pop(peer, None)
        check = check_of(result, peer, self._routing_key, self._exchange_name)
        self.checks[peer] = check
        return check

    def cancel(self) -> None:
        """Cancel all scouts; `answer` may still be called for some."""
        self._waiting.clear()
        for probe in list(self._under_way.values()):
            if probe is not None:
                probe.cancel()

    def _send(self, peer: str) -> None:
        self._under_way[peer] = None
        try:
            target = target_for(self._settings, peer, self._exchange_name, challenge=self._challenger.question(peer))
        except ValueError as error:
            self._answer(peer, ProbeResult(peer, 0, Verdict.UNRESOLVABLE, str(error)))
        else:
            self._under_way[peer] = self._prober.probe(target, lambda result: self._answer(peer, result))
