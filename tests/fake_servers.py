"""Servers for probes and scouts to meet: each is real TCP on a loopback address, with a talk of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from pika import frame as pika_frame
from pika import spec

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


class Visit:
    """One connection that a `FakeServer` took; keeps every byte it heard."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard = b""
        self.over = threading.Event()

    def say(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hear(self, count: int) -> bytes:
        """`count` bytes, or fewer if the other side hangs up before."""
        begin = len(self.heard)
        while len(self.heard) - begin < count:
            more = self.connection.recv(count - (len(self.heard) - begin))
            if not more:
                break
            self.heard += more
        return self.heard[begin:]

    def hear_until_the_end(self) -> None:
        while more := self.connection.recv(65536):
            self.heard += more

    def hear_method(self) -> object:
        """The method of the next AMQP frame; ConnectionError if the other side has hung up."""
        head = self.hear(7)
        if len(head) < 7:
            raise ConnectionResetError("the visitor has left")
        rest = self.hear(int.from_bytes(head[3:7], "big") + 1)
        frame = pika_frame.decode_frame(head + rest)[1]
        return frame.method if isinstance(frame, pika_frame.Method) else None

    def say_method(self, channel: int, method: object) -> None:
        self.say(pika_frame.Method(channel, method).marshal())


class FakeServer:
    """Listens on `host`; `talk` is called with each `Visit`, on a thread of its own, and may raise OSError."""

    def __init__(
        self,
        talk: Callable[[Visit], None],
        host: str = "127.0.0.1",
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> None:
        self._talk = talk
        self.host = host
        self.listener = socket.create_server((host, port), family=family, backlog=512)
        self.port: int = self.listener.getsockname()[1]
        self.visits: list[Visit] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def heard(self) -> bytes:
        """What every visitor said; waits until they have all gone."""
        for visit in self.visits:
            assert visit.over.wait(10), "a visitor does not leave"
        return b"".join(visit.heard for visit in self.visits)

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self.listener.accept()
            except OSError:
                return
            visit = Visit(connection)
            self.visits.append(visit)
            thread = threading.Thread(target=self._serve, args=(visit,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, visit: Visit) -> None:
        with visit.connection, contextlib.suppress(OSError):
            self._talk(visit)
        visit.over.set()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for visit in self.visits:
            with contextlib.suppress(OSError):
                visit.connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


def banner(product: str = "RabbitMQ", mechanisms: str = "PLAIN AMQPLAIN") -> bytes:
    """The greeting of an AMQP server."""
    properties = {"product": product, "version": "3.99.0", "capabilities": {"publisher_confirms": True}}
    return pika_frame.Method(0, spec.Connection.Start(server_properties=properties, mechanisms=mechanisms)).marshal()


def greeter(product: str = "RabbitMQ", mechanisms: str = "PLAIN AMQPLAIN") -> Callable[[Visit], None]:
    """Greets as `product`, then takes whatever it is given."""

    def talk(visit: Visit) -> None:
        visit.hear(len(PROTOCOL_HEADER))
        visit.say(banner(product, mechanisms))
        visit.hear_until_the_end()

    return talk


_ANSWERS = {
    spec.Connection.StartOk: (0, spec.Connection.Tune(channel_max=2047, frame_max=131072, heartbeat=60)),
    spec.Connection.Open: (0, spec.Connection.OpenOk()),
    spec.Channel.Open: (1, spec.Channel.OpenOk()),
    spec.Exchange.Declare: (1, spec.Exchange.DeclareOk()),
    spec.Connection.Close: (0, spec.Connection.CloseOk()),
}


def generous_rabbit(visit: Visit, until: type | None = None) -> None:
    """A RabbitMQ, as far as a scout can tell, where every login works and every exchange exists.

    It says no more from the moment it hears the method `until`.
    """
    visit.hear(len(PROTOCOL_HEADER))
    visit.say(banner())
    method: object = None
    while not isinstance(method, spec.Connection.Close):
        method = visit.hear_method()
        if type(method) is until:
            return
        if type(method) in _ANSWERS:
            visit.say_method(*_ANSWERS[type(method)])


def mute(visit: Visit) -> None:
    """Takes the connection and says nothing."""
    visit.hear_until_the_end()


@contextlib.contextmanager
def full_backlog(host: str) -> Iterator[int]:
    """A listening port that answers no SYN any more: its queue is full and nobody takes from it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
