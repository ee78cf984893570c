"""One statechart pays for a slow discovery; every other one, on every host, has its result at once.

Charts, client and settings load when they are first used: a plain `Cache` loads no miros, a file chart no pika.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes longer to import than a program lives that only reads the file
if TYPE_CHECKING:
    from typing import Any, Final

    from miros_cache_net.async_cache import AsyncCache
    from miros_cache_net.cache import Cache
    from miros_cache_net.cache_chart.chart import CacheFileChart
    from miros_cache_net.discovered_once import discovered_once
    from miros_cache_net.discovery.lan import LanChart
    from miros_cache_net.discovery.lan_recce import LanRecceChart
    from miros_cache_net.discovery.man_net import ManNetChart
    from miros_cache_net.discovery.scout import (
        ProducerScoutChart,
        ProduceScoutChart,
        RabbitConsumerScoutChart,
    )
    from miros_cache_net.errors import (
        BrokerError,
        BrokerUnreachable,
        CacheNetError,
        ChartError,
        ChartForked,
        DirectoryMissing,
        DiscoveryRecursion,
        DiscoveryTimeout,
        DocumentError,
        DocumentTooLarge,
        EventNotSendable,
        ExchangeConflict,
        FileIOError,
        FileRefused,
        FileSystemReadOnly,
        FromTheFuture,
        HardLinkRefused,
        HostProtocolError,
        Immutable,
        LoginRefused,
        MalformedMessage,
        MessageRefused,
        ModifyRecursion,
        NoSpace,
        NotAuthentic,
        NotRegularRefused,
        PayloadError,
        PermissionRefused,
        QueueConflict,
        Reason,
        Replayed,
        SettingsError,
        SignalRefused,
        StoreError,
        Superseded,
        SymbolicLinkRefused,
        TLSRefused,
        TooLarge,
        TooOld,
        TopologyLost,
        UnknownKey,
        Unroutable,
        UnsupportedPlatform,
        VhostRefused,
        WireError,
        WrongPlace,
        WrongVersion,
    )
    from miros_cache_net.node import CacheNode
    from miros_cache_net.node_status import NodeStatus
    from miros_cache_net.payloads import (
        AMQPConsumerCheckPayload,
        CacheErrorPayload,
        CacheReadPayload,
        CacheWritePayload,
        ConnectionDiscoveryPayload,
        RecceCompletePayload,
        RecceProgressPayload,
    )
    from miros_cache_net.settings import Settings
    from miros_cache_net.store.plain_read import read_cache

__all__ = [
    "CacheFileChart",
    "CacheNode",
    "Cache",
    "AsyncCache",
    "read_cache",
    "discovered_once",
    "ProducerScoutChart",
    "ProduceScoutChart",
    "RabbitConsumerScoutChart",
    "LanRecceChart",
    "LanChart",
    "ManNetChart",
    "Settings",
    "CacheReadPayload",
    "CacheWritePayload",
    "CacheErrorPayload",
    "AMQPConsumerCheckPayload",
    "RecceCompletePayload",
    "RecceProgressPayload",
    "ConnectionDiscoveryPayload",
    "NodeStatus",
    "Reason",
    "CacheNetError",
    "SettingsError",
    "DocumentError",
    "DocumentTooLarge",
    "PayloadError",
    "StoreError",
    "FileRefused",
    "SymbolicLinkRefused",
    "HardLinkRefused",
    "NotRegularRefused",
    "PermissionRefused",
    "Immutable",
    "DirectoryMissing",
    "NoSpace",
    "FileSystemReadOnly",
    "FileIOError",
    "Superseded",
    "UnsupportedPlatform",
    "ChartError",
    "ChartForked",
    "WireError",
    "TooLarge",
    "NotAuthentic",
    "MalformedMessage",
    "WrongVersion",
    "WrongPlace",
    "Replayed",
    "SignalRefused",
    "TooOld",
    "Unroutable",
    "FromTheFuture",
    "EventNotSendable",
    "HostProtocolError",
    "BrokerError",
    "BrokerUnreachable",
    "LoginRefused",
    "VhostRefused",
    "ExchangeConflict",
    "QueueConflict",
    "TopologyLost",
    "UnknownKey",
    "TLSRefused",
    "MessageRefused",
    "DiscoveryTimeout",
    "DiscoveryRecursion",
    "ModifyRecursion",
    "__version__",
]

#: Where the names live that are neither payloads nor errors; all load when they are first used.
_LAZY: Final = {
    "CacheFileChart": "miros_cache_net.cache_chart.chart",
    "CacheNode": "miros_cache_net.node",
    "Cache": "miros_cache_net.cache",
    "AsyncCache": "miros_cache_net.async_cache",
    "discovered_once": "miros_cache_net.discovered_once",
    "read_cache": "miros_cache_net.store.plain_read",
    "ProducerScoutChart": "miros_cache_net.discovery.scout",
    "ProduceScoutChart": "miros_cache_net.discovery.scout",
    "RabbitConsumerScoutChart": "miros_cache_net.discovery.scout",
    "LanRecceChart": "miros_cache_net.discovery.lan_recce",
    "LanChart": "miros_cache_net.discovery.lan",
    "ManNetChart": "miros_cache_net.discovery.man_net",
    "Settings": "miros_cache_net.settings",
    "NodeStatus": "miros_cache_net.node_status",
}


def __getattr__(name: str) -> Any:
    value: Any
    if name == "__version__":
        from miros_cache_net.release import release

        value = release()
    elif name in __all__:
        home = _LAZY.get(name) or f"miros_cache_net.{'payloads' if name.endswith('Payload') else 'errors'}"
        value = getattr(__import__(home, fromlist=[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
