"""What a handler answers."""

from __future__ import annotations

from miros.event import return_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: The event is dealt with, and the chart stays in its state.
HANDLED: Final = int(return_status.HANDLED)
