"""The names that programs import from `miros_rabbitmq`, from `miros_cache_net.mesh`."""

from miros_cache_net.mesh import CacheFileChart, NetworkedActiveObject, NetworkedFactory

__all__ = ["CacheFileChart", "NetworkedActiveObject", "NetworkedFactory"]
