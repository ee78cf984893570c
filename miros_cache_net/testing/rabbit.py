"""A private RabbitMQ for tests and demonstrations, with its own ports and directory, which it removes afterwards."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from miros_cache_net.errors import CacheNetError
from miros_cache_net.testing.network import NetworkHost
from miros_cache_net.testing.rabbit_files import RabbitFiles, find_programs

_USUAL_PORT = 5672
#: The protocol header that every AMQP 0-9-1 client sends first.
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
#: Waits until its standard input ends, because this process has died in whatever way.  Then it kills the process groups
#: in its second and later arguments, and removes the directory in its first.
GUARD = """
cat >/dev/null; directory=$1; shift
for group; do kill -s KILL -- "-$group"; done 2>/dev/null
rm -rf -- "$directory"
"""


class RabbitFailed(CacheNetError):
    """The private server failed a request; the message ends with the tail of its log."""


class RabbitServer:
    """A private RabbitMQ, from the machine's `rabbitmq-server`, that listens on `address` only.

    It has no contact with a RabbitMQ that the system runs.  Works for root and for ordinary users.  Nothing that it
    starts outlives this process, even if this process is killed.  Raises RabbitNotInstalled if the program is missing.
    Not thread-safe; `url`, `port` and `ctl` may be used from any thread while it runs.

        with RabbitServer() as server:
            pika.BlockingConnection(pika.URLParameters(server.url))

    config           extra lines for rabbitmq.conf, such as ``heartbeat = 2``
    address          where it listens; the user `guest` may connect from 127.0.0.1 only, `add_user` makes other users
    on               the host of a test's network on which it runs, at that host's address and the usual port; `guest`
                     may connect from anywhere there
    start_timeout_s  how long a start may take (a cold start takes about 5 s on an idle machine)
    """

    def __init__(
        self,
        *,
        config: str = "",
        address: str = "127.0.0.1",
        on: NetworkHost | None = None,
        start_timeout_s: float = 90.0,
    ) -> None:
        self._programs = find_programs()
        self._config = config
        self._on = on
        self._start_timeout_s = start_timeout_s
        self._files = RabbitFiles(Path(tempfile.mkdtemp(prefix="miros-rabbit-")), address)
        if on is not None:
            self._config += "\nloopback_users = none\n"
            self._files.address, self._files.amqp_port, self._files.keeps_port = on.address, _USUAL_PORT, True
        self._files.choose_ports()
        self._broker: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._ever_started = False
        self._paused = False
        atexit.register(self.close)

    # --- where it is --------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return self._files.address

    @property
    def port(self) -> int:
        """The AMQP port; the same after every restart."""
        return self._files.amqp_port

    @property
    def node_name(self) -> str:
        """Its name among Erlang nodes."""
        return self._files.name

    @property
    def directory(self) -> Path:
        """The directory of all its files; `close` removes it."""
        return self._files.directory

    @property
    def log(self) -> Path:
        """Its log file; complete once the server has ended."""
        return self._files.log

    @property
    def url(self) -> str:
        """URL of the default virtual host for the user `guest`."""
        return self.url_for("guest", "guest")

    def url_for(self, name: str, password: str, vhost: str = "%2F") -> str:
        """URL for another user; the caller percent-encodes all three arguments."""
        return f"amqp://{name}:{password}@{self.address}:{self.port}/{vhost}"

    @property
    def running(self) -> bool:
        """The server's process exists (it may be paused)."""
        return self._broker is not None and self._broker.poll() is None

    def join_cluster(self, epmd_port: int, cookie: str, config: str) -> None:
        """Before the first start: join the cluster that the arguments describe (see `RabbitCluster`)."""
        self._files.share_cluster(epmd_port, cookie)
        self._config += config

    # --- its life -----------------------------------------------------------------------------------

    def start(self) -> RabbitServer:
        """Start, and return once AMQP answers; earlier users, exchanges and durable queues exist again.

        Raises RabbitFailed, with the log's tail, if the server ends by itself or does not answer in time.
        """
        if self.running:
            return self
        for attempt in range(3):
            try:
                self._start_once()
                break
            except RabbitFailed as error:
                self.kill()
                # The ports were free when they were chosen; another program may have taken one since.
                if self._ever_started or attempt == 2 or "eaddrinuse" not in str(error):
                    raise
                self._files.choose_ports()
        self._ever_started = True
        return self

    def _start_once(self) -> None:
        self._files.write(self._config)
        # A cluster's first member starts the port mapper; the others' mappers find it running and end at once.
        own = self._programs / "epmd"
        epmd = str(own) if own.exists() else "epmd"
        self._epmd = self._spawn(epmd, "-port", str(self._files.epmd_port), "-address", "127.0.0.1")
        self._broker = self._spawn(str(self._programs / "rabbitmq-server"))
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self.directory), str(self._broker.pid), str(self._epmd.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + self._start_timeout_s
        while not self._answers():
            if self._broker.poll() is not None:
                raise RabbitFailed(f"rabbitmq-server ended with code {self._broker.returncode}; {self._tail()}")
            if time.monotonic() > deadline:
                raise RabbitFailed(f"rabbitmq-server did not answer in {self._start_timeout_s:g} s; {self._tail()}")
            time.sleep(0.05)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self._files.output, "ab") as output:
            return subprocess.Popen(
                self._on.command(command) if self._on is not None else command,
                env=self._files.environment(),
                cwd=self._files.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), 1.0) as connection:
                connection.sendall(AMQP_HEADER)
                connection.settimeout(5.0)
                # Method frame, channel 0: Connection.Start.
                return connection.recv(3) == b"\x01\x00\x00"
        except OSError:
            return False

    def _tail(self) -> str:
        """The errors in its log, and the log's last lines."""
        lines: list[str] = []
        for file in (self._files.log, self._files.output):
            with contextlib.suppress(OSError):
                lines += file.read_text(errors="replace").splitlines()
        if not lines:
            return "it left no log"
        errors = [line for line in lines[:-10] if "[error]" in line]
        return "its log says:\n" + "\n".join(errors[:15] + lines[-10:])

    def stop(self, timeout_s: float = 30.0) -> None:
        """Stop it in an orderly way, as an operator would; durable objects stay for the next `start`."""
        if self._broker is not None and self.running:
            self.resume()
            self._broker.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._broker.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL to all its processes.  Durable objects stay on disk."""
        if self._guard is not None and self._guard.stdin is not None:
            # The guard first: once the others are reaped, their process ids may belong to other processes.
            self._guard.kill()
            self._guard.wait()
            self._guard.stdin.close()
        for process in (self._broker, self._epmd):
            if process is not None:
                # The leader is not reaped yet (or never polled), so the group's id is still its own.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._broker = self._epmd = self._guard = None
        self._paused = False

    def restart(self) -> None:
        """`stop` and `start`: same ports, same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers.  RabbitFailed if it does not run."""
        self._signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let a paused server continue; no effect on a running one."""
        if self._paused:
            self._signal(signal.SIGCONT)
            self._paused = False

    def _signal(self, number: signal.Signals) -> None:
        if self._broker is None or not self.running:
            raise RabbitFailed("the private RabbitMQ does not run; call start() first")
        self._broker.send_signal(number)

    def close(self) -> None:
        """Kill it and remove its directory.  Idempotent; also done when the program ends."""
        if os.getpid() != self._owner:
            return  # a forked child that ends must not end its parent's server
        self.kill()
        shutil.rmtree(self._files.directory, ignore_errors=True)
        atexit.unregister(self.close)

    def __enter__(self) -> RabbitServer:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- its administration -------------------------------------------------------------------------

    def ctl(self, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> str:
        """Run `rabbitmqctl` on this server; returns its output, or raises RabbitFailed with its error message."""
        # RabbitMQ 4's rabbitmqctl reads its input only if the command and user are the only arguments.
        quiet = [] if stdin else ["--quiet"]
        command = [str(self._programs / "rabbitmqctl"), *quiet, *arguments]
        finished = subprocess.run(
            self._on.command(command) if self._on is not None else command,
            check=False,
            env=self._files.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if finished.returncode != 0:
            words = (finished.stderr or finished.stdout).strip()
            raise RabbitFailed(f"rabbitmqctl {' '.join(arguments[:1])} failed with {finished.returncode}: {words}")
        return finished.stdout

    def add_user(self, name: str, password: str, vhost: str = "/") -> str:
        """Make a user with all permissions in `vhost`; returns the user's URL."""
        self.ctl("add_user", name, stdin=password + "\n")
        self.ctl("set_permissions", "-p", vhost, name, ".*", ".*", ".*")
        return self.url_for(name, password, "%2F" if vhost == "/" else vhost)

    def add_vhost(self, name: str) -> str:
        """Make a virtual host that `guest` may use; returns its URL for `guest`."""
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return self.url_for("guest", "guest", name)

    def connection_count(self) -> int:
        """The server's current number of AMQP connections."""
        return len(self.ctl("list_connections", "pid", "--no-table-headers").split())

    def __repr__(self) -> str:
        return f"RabbitServer({self.address}:{self.port}, {'running' if self.running else 'stopped'})"
