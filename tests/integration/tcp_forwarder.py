"""The forwarder of the test kit, under the name that these tests know."""

from miros_cache_net.testing import TcpForwarder

__all__ = ["TcpForwarder"]
