"""Which brokers belong to the older package's mesh: those at which its programs could meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from miros_cache_net.discovery.probe.prober import ProbeHandle, Prober, ProbeResult, ProbeTarget, Verdict, shared_prober

#: The exchange at which its programs meet.
OLD_EXCHANGE: Final = "miros.mesh.exchange"


class OldMeshProber(Prober):
    """The process's shared prober, except that a broker without the exchange is `OK` too.

    A sending program declares the exchange itself, and the exchange does not survive a restart of the broker.
    """

    def probe(self, target: ProbeTarget, done: Callable[[ProbeResult], None]) -> ProbeHandle:
        def judged(result: ProbeResult) -> None:
            done(replace(result, verdict=Verdict.OK) if result.verdict is Verdict.NO_EXCHANGE else result)

        return shared_prober().probe(target, judged)
