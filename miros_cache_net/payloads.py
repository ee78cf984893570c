"""The payloads of the public events: named tuples, so that they unpack and print as `miros` users expect.

Field order is part of the contract: what the older library had comes first.
"""

from __future__ import annotations

from miros_cache_net.errors import Reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NamedTuple
else:
    from miros_cache_net.named_tuple import NamedTuple


class CacheReadPayload(NamedTuple):
    """What `CACHE` carries, and what `Cache.read` and `read_cache` return.

    dict           the document, without metadata; immutable and shared: ``copy.deepcopy`` gives a dict
                   of your own
    last_modified  when the contents were discovered, seconds since 1970; 0.0 if nobody ever wrote them
    created_at     the file's inode change time, as ``time.ctime`` prints it
    expired        older than its ``time_out_in_minutes``, destroyed, or never written
    file_name      base name of the cache file
    age_s          seconds since the discovery, never negative; ``inf`` if nobody ever wrote it
    origin         the node that discovered it, "" if nobody did
    stale          expired, but somebody did discover it once: of use until a younger one comes
    connected      this host's link to the fleet is up; False where no `CacheNode` runs
    file_path      absolute path of the cache file
    version        digest of the replicated state: equal on two hosts that agree
    """

    dict: Mapping[str, Any]
    last_modified: float
    created_at: str
    expired: bool
    file_name: str
    age_s: float = float("inf")
    origin: str = ""
    stale: bool = False
    connected: bool = False
    file_path: str = ""
    version: str = ""


class CacheWritePayload(NamedTuple):
    """What `CACHE_FILE_WRITE` carries: the whole new contents, for one file.

    json       a JSON object as text (str or UTF-8 bytes), or a mapping
    file_name  path or base name of the cache file
    """

    json: str | bytes | Mapping[str, Any]
    file_name: str


class CacheErrorPayload(NamedTuple):
    """What `CACHE_ERROR` carries.

    reason     one of `miros_cache_net.errors.Reason`; compares equal to its lower-case text
    message    one line that says how to mend it; no secret in it
    file_name  base name of the cache file concerned, "" where none is
    source     name of the chart that reports
    """

    reason: Reason
    message: str
    file_name: str = ""
    source: str = ""


class AMQPConsumerCheckPayload(NamedTuple):
    """What `AMQP_CONSUMER_CHECK` carries: a scout's verdict on one address.

    ip_address, routing_key, exchange_name  as given to the scout
    result         True: a compatible consumer is there
    reason         "ok", or the name of the step that said no (`miros_cache_net.discovery.probe.prober.Verdict`)
    detail         one line for a person
    round_trip_s   TCP connect time in seconds, None where nothing answered
    port           the TCP port that was tried
    """

    ip_address: str
    result: bool
    routing_key: str
    exchange_name: str
    reason: str = ""
    detail: str = ""
    round_trip_s: float | None = None
    port: int = 5672


class RecceCompletePayload(NamedTuple):
    """What `LAN_RECCE_COMPLETE` carries.

    other_addresses  the candidates with a compatible consumer, as they were named, in the order of the candidates
    my_address       the address that this machine goes out with
    checks           the verdict on every candidate, in the order in which they came
    request          payload of the `RECCE_LAN` that asked
    failed           why no candidate could be tried at all, "" if they were
    declined         a line for each network that was too large to be swept, and how to have it swept
    swept            how many addresses and ports a sweep asked before the open ones were scouted; 0: the candidates
                     were given
    """

    other_addresses: list[str]
    my_address: str
    checks: tuple[AMQPConsumerCheckPayload, ...] = ()
    request: Any = None
    failed: str = ""
    declined: tuple[str, ...] = ()
    swept: int = 0


class RecceProgressPayload(NamedTuple):
    """What `LAN_RECCE_PROGRESS` carries while a recce runs.

    step         "sweep" (addresses asked for an open port) or "scout" (open ones asked for a compatible broker)
    done, total  how many of how many
    found        how many said yes so far
    request      the payload of the ``RECCE_LAN`` that asked for it
    """

    step: str
    done: int
    total: int
    found: int
    request: Any = None


class ConnectionDiscoveryPayload(NamedTuple):
    """What `CONNECTION_DISCOVERY` carries.  ``amqp_urls`` hold the password: never log this payload."""

    hosts: list[str]
    amqp_urls: list[str]
    dispatcher: str

    def __repr__(self) -> str:
        return f"ConnectionDiscoveryPayload(hosts={self.hosts!r}, dispatcher={self.dispatcher!r})"

    def __str__(self) -> str:
        return repr(self)
