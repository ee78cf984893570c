"""How far a probe has come: what its steps leave behind for whoever must judge it, in time or too late."""

from __future__ import annotations

from dataclasses import dataclass, field

from miros_cache_net.discovery.probe.verdict import ProbeResult, ProbeTarget, Verdict


class Concluded(Exception):
    """The probe is over, with this verdict.  `detail` as in `ProbeResult`."""

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(detail)
        self.verdict = verdict
        self.detail = detail


@dataclass
class Progress:
    """if_late: the verdict if the time runs out during the step that runs now; each step sets it first."""

    target: ProbeTarget
    dialled: str = ""
    round_trip_s: float | None = None
    server: str = ""
    if_late: Concluded = field(
        default_factory=lambda: Concluded(Verdict.UNRESOLVABLE, "its name was not resolved in time")
    )

    def result(self, end: Concluded) -> ProbeResult:
        broker = self.target.address
        return ProbeResult(
            broker.host, broker.port, end.verdict, end.detail, self.dialled, self.round_trip_s, self.server
        )
