"""Programs of the real `miros-rabbitmq` 0.2.0, and others beside them, on a LAN of their own.

`MeshLan` makes hosts with addresses of 192.168.x (the old package knows no others) and a RabbitMQ each; a program
runs on one of them as a process, with the old package or with the adapter.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import NetworkHost, RabbitServer
from miros_cache_net.testing.network import Network
from tests.cli_command import SOURCES, clean_environment

#: Made by ``script/bootstrap --tests``.
OLD_PYTHON = SOURCES / ".venv-old-package" / "bin" / "python"
OLD, ADAPTER = "miros_rabbitmq", "miros_cache_net.mesh"
PEER = Path(__file__).parent / "peer.py"
LAN_FILE = ".miros_rabbitmq_lan_cache.json"
USER, PASSWORD = "peter", "rabbit-of-peter"
#: Far above what anything takes, on a busy machine too.
AMPLE_S = 60.0
#: An old program misses its own discovery in some starts (1 in 6 at the worst that was seen), and never gets over it.
STARTS = 8


class Program:
    """A process on a host.  Its output is kept, line by line, with errors among it."""

    def __init__(
        self, host: NetworkHost, command: Sequence[str | Path], directory: Path, environment: Mapping[str, str]
    ):
        self.process = host.popen(
            [str(each) for each in command],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def shows(self, wanted: Callable[[str], bool] | str, timeout_s: float = AMPLE_S) -> str:
        """The first line of its output that is wanted, or that holds this text; AssertionError if none comes."""
        is_wanted = (lambda line: wanted in line) if isinstance(wanted, str) else wanted
        with self._news:
            self._news.wait_for(lambda: self._ended or any(map(is_wanted, self.lines)), timeout_s)
            for line in self.lines:
                if is_wanted(line):
                    return line
        raise AssertionError(f"{wanted!r} is not among {len(self.lines)} lines; they end with {self.lines[-12:]}")

    def facts(self, name: str) -> list[dict[str, Any]]:
        """All facts of that name that a peer has told so far."""
        return [fact for line in [*self.lines] if line.startswith("=") and name in (fact := json.loads(line[1:]))]

    def fact(self, name: str, number: int = 1, timeout_s: float = AMPLE_S) -> dict[str, Any]:
        """The fact of that name that comes as the `number`-th; AssertionError if it does not come."""
        with self._news:
            self._news.wait_for(lambda: self._ended or len(self.facts(name)) >= number, timeout_s)
        told = self.facts(name)
        assert len(told) >= number, f"{len(told)} of {number} {name!r} were told; the end is {self.lines[-12:]}"
        return told[number - 1]

    def heard(self) -> list[Any]:
        """The payloads that a peer's handler got, in their order."""
        return [fact["heard"] for fact in self.facts("heard")]

    def hears(self, payload: Any, after: int = 0, timeout_s: float = AMPLE_S) -> bool:
        """Whether a peer's handler gets it, as one of those behind the first `after`."""
        with self._news:
            return self._news.wait_for(lambda: payload in self.heard()[after:], timeout_s)

    def tell(self, command: str, *arguments: Any) -> None:
        """Have a peer do it; does not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Close its input and wait; kill it if that does not end it."""
        try:
            if self.process.stdin is not None:
                self.process.stdin.close()
            return self.process.wait(AMPLE_S)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            return self.process.wait(AMPLE_S)
        finally:
            self._reader.join(AMPLE_S)
            assert self.process.stdout is not None
            self.process.stdout.close()

    def kill(self) -> None:
        """End it now."""
        self.process.kill()
        self.end()


class MeshHost:
    """A host of the LAN: its namespace, its RabbitMQ if it has one, and the directory in which its programs run."""

    def __init__(self, network: NetworkHost, broker: RabbitServer | None, directory: Path, key: str) -> None:
        self.network, self.broker, self.directory = network, broker, directory
        self.address = network.address
        # The old package asks which address would be used towards there.  No default route: with one, whoever looks up
        # a name, a RabbitMQ that starts among them, waits for a name server.
        network.run(["ip", "route", "add", "10.255.255.255", "dev", "eth0"])
        self.old_environment = {
            "RABBIT_USER": USER,
            "RABBIT_PASSWORD": PASSWORD,
            "RABBIT_PORT": "5672",
            "RABBIT_HEARTBEAT_INTERVAL": "3600",
            "CONNECTION_ATTEMPTS": "3",
            "MESH_ENCRYPTION_KEY": key,
            "SNOOP_TRACE_ENCRYPTION_KEY": key,
            "SNOOP_SPY_ENCRYPTION_KEY": key,
        }
        self.new_environment = {**self.old_environment, "MIROS_CACHE_TRUSTED_NETWORKS": "auto"}
        self._programs: list[Program] = []

    def remember(self, addresses: Iterable[str], time_out_in_minutes: float = 30) -> Path:
        """Write the LAN file as a warm old program leaves it."""
        peers = list(addresses)
        urls = [f"amqp://{USER}:{PASSWORD}@{each}:5672/%2F?connection_attempts=3" for each in peers]
        document = {"addresses": peers, "amqp_urls": urls, "time_out_in_minutes": time_out_in_minutes}
        path = self.directory / LAN_FILE
        path.write_text(json.dumps(document, indent=2, sort_keys=True))
        return path

    @staticmethod
    def python_of(package: str) -> str | Path:
        """Which Python runs programs of that package."""
        return OLD_PYTHON if package == OLD else sys.executable

    def start(self, python: str | Path, *arguments: str | Path, **environment: str) -> Program:
        """Start a Python program on this host, in its directory."""
        old = python == OLD_PYTHON
        given = {**(self.old_environment if old else self.new_environment), "PYTHONUNBUFFERED": "1", **environment}
        variables = clean_environment(self.directory, **given)
        # users' programs do not compile what they import at every start
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        if old:
            del variables["PYTHONPATH"]
        program = Program(self.network, [python, *arguments], self.directory, variables)
        self._programs.append(program)
        return program

    def start_old(
        self, *arguments: str | Path, works: Callable[[Program], bool], within_s: float = 15.0, **environment: str
    ) -> Program:
        """Start a program of the old package, and again until it `works`: until it has heard itself, say."""
        for _ in range(STARTS):
            program = self.start(OLD_PYTHON, *arguments, **environment)
            until = time.monotonic() + within_s
            while time.monotonic() < until and program.process.poll() is None:
                if works(program):
                    return program
                time.sleep(0.02)
            program.kill()
        raise AssertionError(f"{STARTS} starts of an old program in vain; the last one said {program.lines[-12:]}")

    def old_peer(self, name: str, tx: str = "mesh", rx: str = "", *snoops: str, **environment: str) -> Program:
        """A `peer.py` on the old package that hears itself; its keys must let it."""

        def hears_itself(program: Program) -> bool:
            return bool(program.facts("hears_itself"))

        for _ in range(STARTS):
            program = self.start(OLD_PYTHON, PEER, OLD, name, tx, rx or tx, *snoops, **environment)
            program.tell("hear_itself")
            try:
                program.fact("hears_itself")
                return program
            except AssertionError:
                program.kill()
        raise AssertionError(f"{STARTS} starts of an old program in vain; the last one said {program.lines[-12:]}")

    def new_peer(self, name: str, tx: str = "mesh", rx: str = "", *snoops: str, **environment: str) -> Program:
        """A `peer.py` on the adapter, started."""
        program = self.start(sys.executable, PEER, ADAPTER, name, tx, rx or tx, *snoops, **environment)
        program.fact("started")
        return program

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `miros-cache-net` with these arguments on this host, in its directory, to its end."""
        return self.network.run(
            [sys.executable, "-m", "miros_cache_net", *arguments],
            cwd=self.directory,
            env=clean_environment(self.directory, **{**self.new_environment, **environment}),
            check=False,
            timeout_s=AMPLE_S,
        )

    def clear(self) -> None:
        """Kill its programs and forget its files."""
        while self._programs:
            self._programs.pop().kill()
        for each in self.directory.iterdir():
            each.unlink()


class MeshLan:
    """Hosts on a LAN for as long as the ``with`` lasts; the first `brokers` of them, None: all, with a RabbitMQ.

    aliases  how many addresses more the second host has, at which its RabbitMQ answers too: so many hosts more, as far
             as somebody who dials them can tell
    """

    def __init__(self, count: int, directory: Path, brokers: int | None = None, aliases: int = 0) -> None:
        self._count, self._directory, self._aliases = count, directory, aliases
        self._brokers = count if brokers is None else brokers
        self._made = ExitStack()
        self.key = generate_key().decode()

    def __enter__(self) -> tuple[MeshHost, ...]:
        with self._made:
            hosts = self._made.enter_context(Network(self._count, home=True))
            aliases = [aliases_of(host, self._aliases) if nth == 1 else [] for nth, host in enumerate(hosts)]
            having = zip(hosts[: self._brokers], aliases, strict=False)
            servers = [self._made.enter_context(_Later(host, more)) for host, more in having]
            with ThreadPoolExecutor(4) as at_once:
                list(at_once.map(_Later.start, servers))
            made = []
            for number, host in enumerate(hosts):
                directory = self._directory / f"host-{number + 1}"
                directory.mkdir()
                broker = servers[number].broker if number < len(servers) else None
                made.append(MeshHost(host, broker, directory, self.key))
                self._made.callback(made[-1].clear)
            self._made = self._made.pop_all()
        return tuple(made)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._made.close()


def aliases_of(host: NetworkHost, count: int) -> list[str]:
    """Give it so many addresses more."""
    subnet = host.address.rpartition(".")[0]
    addresses = [f"{subnet}.{number}" for number in range(100, 100 + count)]
    for address in addresses:
        host.run(["ip", "address", "add", f"{address}/24", "dev", "eth0"])
    return addresses


class _Later:
    """A RabbitMQ on a host, at all its addresses; started later, beside the others."""

    def __init__(self, host: NetworkHost, aliases: Sequence[str]) -> None:
        user = f"default_user = {USER}\ndefault_pass = {PASSWORD}\n"
        listeners = enumerate(["127.0.0.1", *aliases], 2)
        config = "".join(f"listeners.tcp.{number} = {address}:5672\n" for number, address in listeners)
        self.broker = RabbitServer(on=host, config=config + user)

    def start(self) -> None:
        self.broker.start()

    def __enter__(self) -> _Later:
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.close()
