"""Peers that somebody could not reach: scouted again, and what follows for the document.  For one chart."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from miros_cache_net import limits
from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.challenge import Challenger
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, target_for
from miros_cache_net.discovery.scout import check_of
from miros_cache_net.settings import Settings
from miros_cache_net.store.changes import Update, update_of

_FIRST_AGAIN_S: Final = 2.0
_LAST_AGAIN_S: Final = 300.0


class PeerChecks:
    """Used by one chart's thread; `answered` is called on the prober's, with what is to come back to `verdict`.

    A peer that is really gone leaves the document, and is looked for ever more rarely; once it is there again it
    returns.  Bounded by `limits.SUSPECTS`.
    """

    def __init__(
        self,
        exchange_name: str,
        settings: Settings,
        prober: Prober,
        answered: Callable[[str, ProbeResult], None],
        rng: random.Random,
    ) -> None:
        self._exchange_name = exchange_name
        self._settings = settings
        self._prober = prober
        self._answered = answered
        self._rng = rng
        self._challenger = Challenger(settings, exchange_name)
        self._gone: dict[str, int] = {}
        self._under_way: set[str] = set()

    def look_at(self, address: str, document: Mapping[str, Any]) -> bool:
        """Scout it, if it is a peer of the document or was one; False if not, or if it is being scouted."""
        known = address in self._gone or address in (lan_document.addresses_in(document) or ())
        if not known or address in self._under_way or len(self._under_way) >= limits.SUSPECTS:
            return False
        self._under_way.add(address)
        question = self._challenger.question(address)
        target = target_for(self._settings, address, self._exchange_name, challenge=question)
        self._prober.probe(target, lambda result: self._answered(address, result))
        return True

    def verdict(
        self, address: str, result: ProbeResult, document: Mapping[str, Any], now_s: float
    ) -> tuple[Update | None, float | None]:
        """What to change in the document, and in how many seconds to look at the address again."""
        self._under_way.discard(address)
        listed = address in (lan_document.addresses_in(document) or ())
        if result.ok:
            self._gone.pop(address, None)
            check = check_of(result, address, "", self._exchange_name)
            change = lan_document.with_peer(document, self._settings, check, seen_at=now_s)
            return (None if listed else update_of(change)), None
        failures = self._gone.get(address, 0)
        if len(self._gone) < limits.SUSPECTS or address in self._gone:
            self._gone[address] = failures + 1
        again_s = self._rng.uniform(0.5, 1.0) * min(_LAST_AGAIN_S, _FIRST_AGAIN_S * 2.0 ** min(failures, 20))
        return (update_of(*lan_document.without(document, self._settings, address)) if listed else None), again_s
