"""The names that programs import from `miros_rabbitmq.network`."""

from __future__ import annotations

from typing import Any, Final

from miros.event import Event, return_status, signals

from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.lan_recce import LanRecceChart
from miros_cache_net.discovery.man_net import ManNetChart
from miros_cache_net.discovery.scout import ProducerScoutChart, RabbitConsumerScoutChart
from miros_cache_net.mesh import CacheFileChart, NetworkedActiveObject, NetworkedFactory
from miros_cache_net.mesh.nets import Nets as MirosNets

__all__ = [
    "CacheFileChart",
    "Event",
    "LanChart",
    "LanRecceChart",
    "ManNetChart",
    "MirosNets",
    "NetworkedActiveObject",
    "NetworkedFactory",
    "ProducerScoutChart",
    "RabbitConsumerScoutChart",
    "return_status",
    "signals",
]

_DROPPED: Final = {
    "LocalAreaNetwork": "the addresses of the LAN are a chart's `lan`",
    "RabbitHelper": "URLs are a chart's `this_url()` and `other_urls()`",
    "RabbitHelper2": "URLs are a chart's `this_url()` and `other_urls()`",
    "PID": "nothing is paced by a controller any more",
    "QueueToSampleTimeControl": "nothing is paced by a controller any more",
    "PikaTopicConsumer": "a chart's own `on_network_message` hears, and its `nets` holds the keys",
    "SimplePikaTopicConsumer": "a chart's own `on_network_message` hears, and its `nets` holds the keys",
    "PikaTopicPublisher": "`transmit` sends, and a chart's `nets` holds the keys",
    "SimplePikaTopicPublisher": "`transmit` sends, and a chart's `nets` holds the keys",
    "ProducerFactoryChart": "`LanChart` and `ManNetChart` find the brokers, and a chart sends to them by itself",
    "LoadEnvironmentalVariables": "`miros_cache_net.Settings` reads `.env`",
}


def __getattr__(name: str) -> Any:
    if name in _DROPPED:
        raise ImportError(f"miros_rabbitmq.network.{name} is not there under miros-cache-net: {_DROPPED[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
