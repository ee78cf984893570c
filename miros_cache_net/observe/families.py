"""The one table of everything counted.  `status --json`, metrics and pages read it; whatever is counted has a row."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing takes longer than a reader's whole run
if TYPE_CHECKING:
    from typing import Final


class Family:
    """A row of the table: everything counted under one name.

    name      as in ``status --json``, where the values of `labels` follow it: ``refused`` and ``reason`` make
              ``refused_too_old``
    help      one sentence
    labels    the names of its labels
    is_gauge  the number is a current value, which may fall
    place     its row in `FAMILIES`
    """

    __slots__ = ("help", "is_gauge", "labels", "name", "place")

    def __init__(self, name: str, help: str, *labels: str, is_gauge: bool = False) -> None:
        self.name, self.help, self.labels, self.is_gauge = name, help, labels, is_gauge
        self.place = len(FAMILIES)
        FAMILIES.append(self)

    def __repr__(self) -> str:
        return f"Family({self.name!r})"


#: All rows, in the order in which they are shown.
FAMILIES: Final[list[Family]] = []

# --- the messages of the fleet ------------------------------------------------------------------------------------

REFUSED: Final = Family("refused", "Messages that the door refused.", "reason")
RECEIVED: Final = Family(
    "received",
    "Trusted messages that arrived; own_request: a request of this host came back, overtaken: a newer one was waiting, "
    "dropped: the queue was full.",
    "kind",
)
SENT: Final = Family("sent", "Messages handed to the link.", "kind")
ANSWERS_REFUSED: Final = Family("answers_refused", "Requests left unanswered because of the rate limit.")

# --- the link to the broker ---------------------------------------------------------------------------------------

LINKS_MADE: Final = Family("links_made", "Links that came up.")
LINKS_FAILED: Final = Family("links_failed", "Links that were lost, or failed to connect for a new reason.")
SENDINGS_LOST: Final = Family("sendings_lost", "Documents that the broker did not confirm; they are sent again.")
REPORTED: Final = Family("reported", "Errors of the bridge that were published as CACHE_ERROR.", "reason")

# --- the processes of one host ------------------------------------------------------------------------------------

FOLLOWERS: Final = Family("followers", "Processes that follow this bridge now.", is_gauge=True)
FOLLOWERS_DROPPED: Final = Family("followers_dropped", "Followers that did not read, or violated the protocol.")
FOLLOWERS_REFUSED: Final = Family(
    "followers_refused", "Processes refused because of their user, or because no slot was free."
)
NOTICES_SENT: Final = Family("notices_sent", "Changes of state sent to followers, counted once for each follower.")
NOTICES_RECEIVED: Final = Family(
    "notices_received", "Changes of state that this follower has received from its bridge."
)
BRIDGES_MET: Final = Family("bridges_met", "Bridges that this follower has followed, one after another.")

# --- the cache file -----------------------------------------------------------------------------------------------

FILE_WRITES: Final = Family("file_writes", "Replacements of the cache file by this process.")
FILE_REPAIRS: Final = Family(
    "file_repairs", "Files that were set aside, taken over or recovered from a holder that died.", "reason"
)

# --- the charts and scouts of the process -------------------------------------------------------------------------

CHARTS: Final = Family("charts", "Charts that run in this process now.", is_gauge=True)
CHART_EVENTS_REFUSED: Final = Family("chart_events_refused", "Events refused because a chart's queue was full.")
CHART_EVENTS_LATE: Final = Family("chart_events_late", "Events that reached a chart after its stop.")
CHART_ERRORS: Final = Family("chart_errors", "Errors that charts reported as CACHE_ERROR.", "reason")
SCOUTED: Final = Family("scouted", "Addresses that scouts have checked, by verdict.", "verdict")

# --- traces, while somebody watches this host ---------------------------------------------------------------------

TRACE_WATCHES: Final = Family("trace_watches", "Watchers of this host's traces now.", is_gauge=True)
TRACE_STEPS_SENT: Final = Family("trace_steps_sent", "Steps sent to watchers, counted once for each watcher.")
TRACE_STEPS_MISSED: Final = Family("trace_steps_missed", "Steps withheld from a watcher by the rate limit for traces.")

# --- the mesh of `miros-rabbitmq` ---------------------------------------------------------------------------------

NET_MESSAGES: Final = Family(
    "net_messages",
    "Messages of a networked chart: received, repeated, sent, dropped, refused by the broker, unsendable.",
    "network",
    "outcome",
)
NET_REFUSED: Final = Family("net_refused", "Messages that a networked chart's door refused.", "network", "reason")
NET_WAITING: Final = Family("net_waiting", "Messages that a broker has not confirmed yet.", "network", is_gauge=True)
MESH_RECEIVED: Final = Family(
    "mesh_received",
    "Events of old programs accepted by this node, which speaks for its fleet; other: not an event of a cache.",
    "signal",
)
MESH_REFUSED: Final = Family(
    "mesh_refused",
    "Events of old programs that this node refused; payload: not a document, store: the file refused it.",
    "reason",
)
MESH_SAID: Final = Family("mesh_said", "CACHE events that this node has sent to old programs.")
MESH_SPEAKS: Final = Family("mesh_speaks", "1 while this node speaks for its fleet in the old mesh.", is_gauge=True)
NET_UNHANDLED: Final = Family(
    "net_unhandled", "Events or lines dropped because the program's methods were too far behind.", "what"
)
