"""A probe's progress: what its steps record, so that it has a verdict even if it runs out of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from miros_cache_net.discovery.probe.verdict import ProbeResult, ProbeTarget, Verdict

_ORDER: Final = tuple(Verdict)


class Concluded(Exception):
    """Ends the probe with this verdict.  `detail` as in `ProbeResult`."""

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(detail)
        self.verdict = verdict
        self.detail = detail


@dataclass
class Progress:
    """if_late: the verdict if the time runs out during the current step; each step sets it first.
    so_far: the furthest result among the addresses tried before the current one.
    """

    target: ProbeTarget
    dialled: str = ""
    round_trip_s: float | None = None
    server: str = ""
    if_late: Concluded = field(
        default_factory=lambda: Concluded(Verdict.UNRESOLVABLE, "its name was not resolved in time")
    )

    so_far: ProbeResult | None = None

    def begin(self, address: str) -> None:
        """Start with `address`; of the addresses before, only `so_far` is kept."""
        self.dialled, self.round_trip_s, self.server = address, None, ""
        self.if_late = Concluded(Verdict.SILENT, "nothing answers the connection attempt")

    def furthest(self, end: Concluded) -> ProbeResult:
        """The furthest result among `so_far` and `end`, the current address's: it is the most useful one to report."""
        here = self.result(end)
        if self.so_far is None or here.ok or _ORDER.index(here.verdict) >= _ORDER.index(self.so_far.verdict):
            return here
        return self.so_far

    def result(self, end: Concluded) -> ProbeResult:
        broker = self.target.address
        return ProbeResult(
            broker.host, broker.port, end.verdict, end.detail, self.dialled, self.round_trip_s, self.server
        )
