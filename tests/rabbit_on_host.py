"""A real RabbitMQ on a host of a test's network."""

from __future__ import annotations

import subprocess

from miros_cache_net.testing import NetworkHost, RabbitServer


class RabbitOnHost(RabbitServer):
    """A `RabbitServer` in the host's namespace, at its address and the usual port; `guest` may come from anywhere."""

    def __init__(self, host: NetworkHost) -> None:
        super().__init__(config="loopback_users = none")
        self._host = host
        self._files.address, self._files.amqp_port = host.address, 5672

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        return super()._spawn(*self._host.command(command))
