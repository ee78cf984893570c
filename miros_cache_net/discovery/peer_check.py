"""One chart's checks of peers reported as unreachable: scouts them again, and derives the change to the document."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from miros_cache_net import limits
from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.challenge import Challenger
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult
from miros_cache_net.discovery.probe.target import target_for
from miros_cache_net.discovery.retry import retry_after_s
from miros_cache_net.discovery.scout import check_of
from miros_cache_net.settings import Settings
from miros_cache_net.store.changes import Update, update_of


class PeerChecks:
    """For one chart's thread.  `answered` is called on the prober's thread; its arguments are those of `verdict`.

    A peer that is gone is removed from the document and scouted with increasing back-off; it is added again when it
    answers.  Bounded by `limits.SUSPECTS`.  `old`: the document has the form for older programs.
    """

    def __init__(
        self,
        exchange_name: str,
        settings: Settings,
        prober: Prober,
        answered: Callable[[str, ProbeResult], None],
        rng: random.Random,
        *,
        old: bool = False,
    ) -> None:
        self._exchange_name = exchange_name
        self._settings = settings
        self._prober = prober
        self._answered = answered
        self._rng = rng
        self._old = old
        self._challenger = Challenger(settings, exchange_name)
        self._gone: dict[str, int] = {}
        self._under_way: set[str] = set()

    def look_at(self, address: str, document: Mapping[str, Any], *, wanted: bool = False) -> bool:
        """Scout `address` if it is or was a peer of the document, or `wanted`; False if not, or if already under way.

        Also False if `limits.SUSPECTS` checks are under way.  Raises `SettingsError` if the TLS files cannot be read;
        the address can be scouted again afterwards.
        """
        known = wanted or address in self._gone or address in (lan_document.addresses_in(document) or ())
        if not known or address in self._under_way or len(self._under_way) >= limits.SUSPECTS:
            return False
        question = self._challenger.question(address)
        target = target_for(self._settings, address, self._exchange_name, challenge=question)
        self._under_way.add(address)
        self._prober.probe(target, lambda result: self._answered(address, result))
        return True

    def verdict(
        self, address: str, result: ProbeResult, document: Mapping[str, Any], now_s: float
    ) -> tuple[Update | None, float | None]:
        """The change to the document, and the seconds until the next look at the address; None for neither."""
        self._under_way.discard(address)
        listed = address in (lan_document.addresses_in(document) or ())
        if result.ok:
            self._gone.pop(address, None)
            check = check_of(result, address, "", self._exchange_name)
            change = lan_document.with_peer(document, self._settings, check, seen_at=now_s, old=self._old)
            cleared = lan_document.suspicion_of(document, address)
            change = {} if listed else change
            return (update_of(change, cleared) if change or cleared else None), None
        failures = self._gone.get(address, 0)
        if len(self._gone) < limits.SUSPECTS or address in self._gone:
            self._gone[address] = failures + 1
        again_s = retry_after_s(failures, self._rng)
        gone = lan_document.without(document, self._settings, address, old=self._old)
        return (update_of(*gone) if listed else None), again_s
