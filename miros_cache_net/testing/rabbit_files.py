"""A private RabbitMQ's program, ports, directory and environment."""

from __future__ import annotations

import glob
import os
import random
import secrets
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

from miros_cache_net.errors import CacheNetError

#: Debian's package, the upstream packages and a generic-unix archive; the plain scripts come first, because
#: the wrapper in /usr/sbin insists on changing to the user `rabbitmq` and its own directories.
PROGRAM_PLACES = (
    "/usr/lib/rabbitmq/bin",
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "/opt/rabbitmq/sbin",
    "/opt/homebrew/sbin",
    "/usr/local/sbin",
)
#: Names the directory of another RabbitMQ's programs: `rabbitmq-server`, `rabbitmqctl` and `epmd`.
PROGRAMS_VARIABLE = "TEST_RABBITMQ"
#: Below the range of Linux's client ports (32768 and up): while the broker is down, no client's own socket can
#: take its port, and no client that keeps retrying can connect to itself.
PORTS = range(20_000, 32_000)


class RabbitNotInstalled(CacheNetError):
    """No rabbitmq-server program on this machine, or none in the directory that the environment names."""

    def __init__(self, named: str = "") -> None:
        if named:
            super().__init__(f"{PROGRAMS_VARIABLE}={named}: no rabbitmq-server, rabbitmqctl and epmd there")
        else:
            super().__init__(
                "rabbitmq-server is not installed: run script/bootstrap, or apt-get install rabbitmq-server"
            )


def find_programs() -> Path:
    """The directory of `rabbitmq-server` and `rabbitmqctl`; raises RabbitNotInstalled if there is none.

    It is the one that ``TEST_RABBITMQ`` names, which must contain `epmd` too; else the machine's own.
    """
    named = os.environ.get(PROGRAMS_VARIABLE, "")
    if named:
        if _has(named, "rabbitmq-server", "rabbitmqctl", "epmd"):
            return Path(named)
        raise RabbitNotInstalled(named)
    if shutil.which("erl") is not None:
        for place in PROGRAM_PLACES:
            for directory in sorted(glob.glob(place), reverse=True):
                if _has(directory, "rabbitmq-server", "rabbitmqctl"):
                    return Path(directory)
    raise RabbitNotInstalled


def _has(directory: str, *programs: str) -> bool:
    return all(os.access(f"{directory}/{name}", os.X_OK) for name in programs)


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nothing listens on at `address`, outside the range of client ports."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free TCP port in {PORTS.start}..{PORTS.stop} on {address}")


@dataclass
class RabbitFiles:
    """One server's own directory, names and ports, and the environment that keeps it inside them.

    The Erlang port mapper (`epmd`) gets a port of its own too, so that nodes started here and the system's
    RabbitMQ can neither see nor disturb each other.
    """

    directory: Path
    address: str = "127.0.0.1"
    name: str = field(default_factory=lambda: f"private_{secrets.token_hex(4)}@localhost")
    amqp_port: int = 0
    keeps_port: bool = False
    dist_port: int = 0
    epmd_port: int = 0
    cookie: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def choose_ports(self) -> None:
        if not self.keeps_port:
            self.amqp_port = free_port(self.address)
        self.dist_port = free_port()
        self.epmd_port = free_port()

    def share_cluster(self, epmd_port: int, cookie: str) -> None:
        """Join a cluster: its members share one port mapper and one secret."""
        self.epmd_port, self.cookie = epmd_port, cookie

    @property
    def log(self) -> Path:
        return self.directory / "log" / f"{self.name}.log"

    @property
    def output(self) -> Path:
        return self.directory / "output"

    def write(self, config: str) -> None:
        """Write the directory's contents; `config` has extra lines for rabbitmq.conf."""
        for part in ("data", "log", "home"):
            (self.directory / part).mkdir(exist_ok=True)
        cookie = self.directory / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self.cookie)
            cookie.chmod(0o400)
        (self.directory / "environment").write_text("")
        (self.directory / "plugins").write_text("[].\n")
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {self.address}:{self.amqp_port}\nlog.console = false\n{config}\n"
        )

    def environment(self) -> dict[str, str]:
        """The server's environment; none of the caller's variables for RabbitMQ or Erlang reaches it."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        directory = self.directory
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        environment.update(
            HOME=str(directory / "home"),
            ERL_EPMD_PORT=str(self.epmd_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            ERL_CRASH_DUMP_SECONDS="0",
            RABBITMQ_NODENAME=self.name,
            RABBITMQ_DIST_PORT=str(self.dist_port),
            RABBITMQ_CONF_ENV_FILE=str(directory / "environment"),
            RABBITMQ_CONFIG_FILE=str(directory / "rabbitmq.conf"),
            RABBITMQ_ADVANCED_CONFIG_FILE=str(directory / "none.config"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(directory / "plugins"),
            RABBITMQ_PLUGINS_EXPAND_DIR=str(directory / "expanded"),
            RABBITMQ_MNESIA_BASE=str(directory / "data"),
            RABBITMQ_LOG_BASE=str(directory / "log"),
            RABBITMQ_PID_FILE=str(directory / "pid"),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=loopback,
            RABBITMQ_CTL_ERL_ARGS=loopback,
            RABBITMQ_CTL_DIST_PORT_MIN=str(PORTS.start),
            RABBITMQ_CTL_DIST_PORT_MAX=str(PORTS.stop - 1),
            # Replace the shell with the Erlang VM, so that signals reach the VM and no shell outlives it.
            detached="1",
        )
        return environment
