"""The two ends of a replication, each in a process and a directory of its own, by different means.

An end is made and used in its process; the parent tells it what to do through a pipe (`EndProcess`).  Times are
of the machine's monotonic clock, the same for all processes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.document import DOCUMENT
from benchmarks.redis_plain import Redis

EXCHANGE = "benchmark.raw"
REQUESTS = "benchmark.requests"
Heard = Callable[[int], None]


class Means(NamedTuple):
    """What an end is made of: picklable, no connection yet."""

    kind: str
    directory: Path
    url: str
    key: str = ""
    port: int = 0


def body(n: int) -> dict[str, Any]:
    return {**DOCUMENT, "n": n}


def durable_write(directory: Path, text: bytes) -> None:
    """The bare system calls: write, fsync, rename, fsync of the directory."""
    temporary = directory / "bare.json.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, text)
    os.fsync(fd)
    os.close(fd)
    os.rename(temporary, directory / "bare.json")
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def node_settings(means: Means) -> Any:
    from miros_cache_net import Settings

    means.directory.mkdir(parents=True, exist_ok=True)
    return Settings(
        keys=means.key,
        file=str(means.directory / "cache.json"),
        node_name=means.directory.name,
        amqp_urls=means.url,
    )


class End:
    """One side.  `heard` is called with the number of each document that reaches a subscriber here."""

    def __init__(self, means: Means, heard: Heard) -> None:
        self.means, self.heard = means, heard

    def send(self, n: int) -> None:
        """One write, as the program's own thread asks for it; returns as soon as that thread is free."""
        raise NotImplementedError

    def sustain(self, first: int, count: int) -> None:
        """So many writes, one after the other, each durable here before the next."""
        raise NotImplementedError

    def counters(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None: ...


class Ours(End):
    """A `CacheNode`, a subscriber, and writes by published events."""

    def __init__(self, means: Means, heard: Heard) -> None:
        from miros_cache_net import CacheNode
        from miros_cache_net.events import event
        from miros_cache_net.statechart.listener import Listener

        super().__init__(means, heard)
        self._event = event
        self._subscriber = Listener({"CACHE": lambda payload: heard(payload.dict.get("n", 0))})
        self.node = CacheNode(settings=node_settings(means))

    def send(self, n: int) -> None:
        self._subscriber.publish(self._event("CACHE_FILE_WRITE", body(n)))

    def sustain(self, first: int, count: int) -> None:
        """As a burst: events are published as fast as that goes."""
        for n in range(first, first + count):
            self.send(n)

    def counters(self) -> Mapping[str, int]:
        return {**self.node.status()["counters"], "connected": int(self.node.connected)}

    def close(self) -> None:
        self.node.stop()
        self._subscriber.stop()


class Raw(End):
    """Bare pika, bare system calls and bare miros, with nothing between them."""

    def __init__(self, means: Means, heard: Heard) -> None:
        import pika
        from miros.activeobject import Factory
        from miros.event import Event, return_status, signals

        super().__init__(means, heard)
        means.directory.mkdir(parents=True, exist_ok=True)
        self._event, self._pika = Event, pika
        self._sending = _publishing(means.url)
        self._receiving = threading.Thread(target=self._receive, daemon=True)
        self._bound = threading.Event()
        self._chart = Factory("bare")

        def written(_chart: Any, e: Any) -> Any:
            self._write_and_publish(e.payload)
            return return_status.HANDLED

        def changed(_chart: Any, e: Any) -> Any:
            heard(e.payload["n"])
            return return_status.HANDLED

        for name in ("BARE_WRITE", "BARE_CHANGED"):
            signals.append(name)
        state = self._chart.create(state="bare")
        state.catch(signal=signals.BARE_WRITE, handler=written).catch(signal=signals.BARE_CHANGED, handler=changed)
        self._chart.nest(state.to_method(), parent=None)
        for name in ("BARE_WRITE", "BARE_CHANGED"):
            self._chart.subscribe(Event(signal=name))
        self._chart.start_at(state.to_method())
        self._receiving.start()
        if not self._bound.wait(30):
            raise TimeoutError("bare pika does not consume")

    def send(self, n: int) -> None:
        self._chart.publish(self._event(signal="BARE_WRITE", payload=body(n)))

    def sustain(self, first: int, count: int) -> None:
        for n in range(first, first + count):
            self._write_and_publish(body(n))

    def _write_and_publish(self, contents: dict[str, Any]) -> None:
        text = json.dumps(contents).encode()
        durable_write(self.means.directory, text)
        # returns with the broker's confirm
        key = f"from.{self.means.directory.name}"
        self._sending.basic_publish(EXCHANGE, key, text, self._pika.BasicProperties(delivery_mode=1))

    def _receive(self) -> None:
        _connection, channel, queue = consuming(self.means.url)
        if self.means.directory.name != "raw-a":
            channel.queue_bind(queue, EXCHANGE, "from.raw-a")
        channel.basic_consume(queue, self._received)
        self._bound.set()
        channel.start_consuming()

    def _received(self, channel: Any, method: Any, _properties: Any, text: bytes) -> None:
        contents = json.loads(text)
        durable_write(self.means.directory, text)
        channel.basic_ack(method.delivery_tag)
        self._chart.publish(self._event(signal="BARE_CHANGED", payload=contents))

    def close(self) -> None:
        self._chart.stop()


class RedisEnd(End):
    """SET and PUBLISH on one side, a subscription on the other; no file, no events."""

    def __init__(self, means: Means, heard: Heard) -> None:
        super().__init__(means, heard)
        self._redis = Redis(means.port)
        if means.directory.name.endswith("-b"):
            self._subscription = Redis(means.port)
            self._subscription.call("SUBSCRIBE", "news")
            threading.Thread(target=self._receive, daemon=True).start()

    def send(self, n: int) -> None:
        text = json.dumps(body(n))
        self._redis.call("SET", "document", text)
        self._redis.call("PUBLISH", "news", text)

    def sustain(self, first: int, count: int) -> None:
        for n in range(first, first + count):
            self.send(n)

    def _receive(self) -> None:
        while True:
            self.heard(json.loads(self._subscription.reply()[2])["n"])


def _publishing(url: str) -> Any:
    import pika

    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    channel = pika.BlockingConnection(parameters).channel()
    channel.confirm_delivery()
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    return channel


def consuming(url: str) -> tuple[Any, Any, str]:
    """Bare pika: a connection, a channel, and a queue of its own."""
    import pika

    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    channel.basic_qos(prefetch_count=100)
    return connection, channel, channel.queue_declare("", exclusive=True).method.queue


KINDS: dict[str, Callable[[Means, Heard], End]] = {"ours": Ours, "raw": Raw, "redis": RedisEnd}


class EndProcess:
    """An end in its process, seen from the parent."""

    def __init__(self, means: Means) -> None:
        context = multiprocessing.get_context("spawn")
        self._commands, commands = context.Pipe()
        self._news, news = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(means, commands, news), daemon=True)
        self._process.start()
        commands.close()
        news.close()
        self.answer()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def ask(self, what: str, *arguments: int) -> None:
        self._commands.send((what, arguments))

    def answer(self) -> Any:
        """What came of the last `ask`; of writes, when they began and when the writer was free."""
        if not self._commands.poll(120):
            raise TimeoutError("a process of the benchmark does not answer")
        return self._commands.recv()

    def heard(self, n: int) -> float:
        """When document `n` reached the subscriber."""
        while self._news.poll(30):
            number, at_s = self._news.recv()
            if number == n:
                return float(at_s)
        raise TimeoutError(f"document {n} has not come")

    def close(self) -> None:
        self.ask("close")
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def _serve(means: Means, commands: Any, news: Any) -> None:
    one_at_a_time = threading.Lock()

    def heard(n: int) -> None:
        at_s = time.monotonic()
        if means.directory.name.endswith("-a"):
            return  # nobody reads what the writing side hears: a full pipe would hold its subscriber up
        with one_at_a_time:
            news.send((n, at_s))

    end = KINDS[means.kind](means, heard)
    commands.send("ready")
    while True:
        what, arguments = commands.recv()
        began_s = time.monotonic()
        if what == "close":
            break
        if what == "counters":
            commands.send(end.counters())
        else:
            {"send": end.send, "sustain": end.sustain}[what](*arguments)
            commands.send((began_s, time.monotonic()))
    end.close()
    os._exit(0)
