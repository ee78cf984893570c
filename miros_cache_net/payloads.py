"""The payloads of the public events: named tuples, so that they unpack and print as `miros` users expect.

Field order is part of the contract: the older library's fields come first.
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
    """The payload of `CACHE`; `Cache.read` and `read_cache` return it too.

    dict           the document without metadata; immutable and shared: ``copy.deepcopy`` gives a mutable
                   copy
    last_modified  when the contents were discovered, in seconds since 1970; 0.0 if nothing ever wrote them
    created_at     the file's inode change time, as ``time.ctime`` prints it
    expired        older than its ``time_out_in_minutes``, destroyed, or never written
    file_name      base name of the cache file
    age_s          seconds since the discovery, never negative; ``inf`` if nothing ever wrote the document
    origin         the node that discovered it, "" if none did
    stale          expired, but discovered once: usable until a younger document arrives
    connected      this host's link to the fleet is up; False where no `CacheNode` runs
    file_path      absolute path of the cache file
    version        digest of the replicated state: two hosts that agree have the same one
    discovered_at  `last_modified` in ISO 8601, UTC, with milliseconds; "" if nothing ever wrote the contents
    stored_at      `created_at` in the same form; "" if there is no file
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
    discovered_at: str = ""
    stored_at: str = ""


class CacheWritePayload(NamedTuple):
    """The payload of `CACHE_FILE_WRITE`: the whole new contents of one file.

    json       a JSON object as text (str or UTF-8 bytes), or a mapping
    file_name  path or base name of the cache file
    """

    json: str | bytes | Mapping[str, Any]
    file_name: str


class CacheErrorPayload(NamedTuple):
    """The payload of `CACHE_ERROR`.

    reason     one of `miros_cache_net.errors.Reason`; compares equal to its lower-case text
    message    one line that says how to fix it; contains no secret
    file_name  base name of the cache file concerned, "" if there is none
    source     name of the chart that reports the error
    """

    reason: Reason
    message: str
    file_name: str = ""
    source: str = ""


class AMQPConsumerCheckPayload(NamedTuple):
    """The payload of `AMQP_CONSUMER_CHECK`: a scout's verdict on one address.

    ip_address, routing_key, exchange_name  as given to the scout
    result         True: a compatible consumer is there
    reason         "ok", or the name of the step that failed (`miros_cache_net.discovery.probe.prober.Verdict`)
    detail         one line for people to read
    round_trip_s   TCP connect time in seconds, None if nothing answered
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
    """The payload of `LAN_RECCE_COMPLETE`.

    other_addresses  the candidates with a compatible consumer, as they were named, in the order of the candidates
    my_address       this machine's source address for outgoing connections
    checks           the verdict on every candidate, in the order in which the verdicts arrived
    request          payload of the `RECCE_LAN` that asked for this recce
    failed           why no candidate could be tried at all, "" if they were tried
    declined         one line for each network that was too large to sweep, with the way to have it swept
    swept            how many addresses and ports the sweep tried before the open ones were scouted; 0: the
                     candidates were given
    my_broker        whether a RabbitMQ answers at `my_address` too; False if that was not checked
    """

    other_addresses: list[str]
    my_address: str
    checks: tuple[AMQPConsumerCheckPayload, ...] = ()
    request: Any = None
    failed: str = ""
    declined: tuple[str, ...] = ()
    swept: int = 0
    my_broker: bool = False


class RecceProgressPayload(NamedTuple):
    """The payload of `LAN_RECCE_PROGRESS` while a recce runs.

    step         "sweep" (addresses tried for an open port) or "scout" (open ports checked for a compatible broker)
    done, total  how many are done, out of how many
    found        how many succeeded so far
    request      payload of the ``RECCE_LAN`` that asked for this recce
    """

    step: str
    done: int
    total: int
    found: int
    request: Any = None


class ConnectionDiscoveryPayload(NamedTuple):
    """The payload of `CONNECTION_DISCOVERY`.  ``amqp_urls`` contain the password: never log this payload."""

    hosts: list[str]
    amqp_urls: list[str]
    dispatcher: str

    def __repr__(self) -> str:
        return f"ConnectionDiscoveryPayload(hosts={self.hosts!r}, dispatcher={self.dispatcher!r})"

    def __str__(self) -> str:
        return repr(self)
