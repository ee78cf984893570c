"""The names that programs import from `miros_rabbitmq.cache`."""

from miros_cache_net.mesh import CacheFileChart

__all__ = ["CacheFileChart"]
