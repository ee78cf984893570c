"""Live spy and trace lines that no callback's mistake can silence for the other charts of the process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from miros_cache_net.errors import Reason
from miros_cache_net.statechart import fabric
from miros_cache_net.statechart.containment import describe
from miros_cache_net.statechart.states import StatesFactory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class LiveFactory(StatesFactory):
    """A factory whose live callbacks run guarded on miros' writer thread; that thread is restarted if dead."""

    def report(self, reason: Reason, message: str, file_name: str = "", *, exc: BaseException | None = None) -> None:
        """Tell what went wrong; never raises."""
        raise NotImplementedError

    def register_live_spy_callback(self, live_spy_callback: Callable[[str], Any]) -> None:
        """Have `live_spy_callback(line)` called, on the writer's thread, for each line of the spy."""
        self.live_spy_callback = self._to_writer(live_spy_callback)

    def register_live_trace_callback(self, live_trace_callback: Callable[[str], Any]) -> None:
        """Have `live_trace_callback(line)` called, on the writer's thread, for each line of the trace."""
        self.live_trace_callback = self._to_writer(live_trace_callback)

    def print(self, content: object) -> None:
        """Print on the writer's thread, in order with the live lines."""
        fabric.write_live(_print, str(content))

    def trace(self) -> str | None:
        """The state transitions so far, a line each; from any thread.  None if instrumentation is off."""
        if not self.instrumented or not self.spied_on:
            return None
        # A copy: the chart's thread goes on adding.
        return "\n" + "".join(self.trace_tuple_to_formatted_string(each) for each in list(self.full.trace))

    def _to_writer(self, callback: Callable[[str], Any]) -> Callable[[str], None]:
        failed = False

        def guarded(line: str) -> None:
            nonlocal failed
            try:
                callback(line)
            except BaseException as exc:
                # Once: a callback that fails mostly fails for each of a thousand lines.
                if not failed:
                    failed = True
                    self.report(Reason.HANDLER, f"a live callback of chart {self.name} raised {describe(exc)}", exc=exc)

        return lambda line: fabric.write_live(guarded, line)


def _print(content: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard output is closed, or nobody reads it
        print(content, flush=True)
