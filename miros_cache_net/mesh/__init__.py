"""Runs programs written for `miros-rabbitmq`.

In comes a chart as those programs build it, with user, password and key.  Out go its events to the charts of all other
programs of the mesh, including old ones; their events come back to it.

    from miros_cache_net.mesh import NetworkedFactory, NetworkedActiveObject

This package must not know pika, keys and tokens (`wire.mesh` reads and writes them), or how brokers are found.

    adapter       the two classes; `nets` and `lan`: a chart's attributes of these names
    config        arguments and settings; `addresses`: which broker is which
    net           one network; `outgoing`: the queue to one broker; `inbox`: the queue of calls to the program's methods
    switchboard   the links, as brokers come and go; `discovery` finds the brokers
    topology      the declarations at a broker
    snoop         the printed lines; `signal_names`: which signals other programs may send
    program       runs an unchanged program of `miros-rabbitmq` on this package

The names are loaded on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from miros_cache_net.cache_chart.chart import CacheFileChart
    from miros_cache_net.mesh.adapter import NetworkedActiveObject, NetworkedFactory

__all__ = ["CacheFileChart", "NetworkedActiveObject", "NetworkedFactory"]

_HOMES: Final = {
    "CacheFileChart": "cache_chart.chart",
    "NetworkedActiveObject": "mesh.adapter",
    "NetworkedFactory": "mesh.adapter",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"miros_cache_net.{_HOMES[name]}", fromlist=[name]), name)
    globals()[name] = value
    return value
