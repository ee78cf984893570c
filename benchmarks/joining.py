"""How soon a host that has nothing has the fleet's document, beside what its connection alone takes."""

from __future__ import annotations

import multiprocessing
import shutil
import threading
import time
from typing import Any

from benchmarks.redis_plain import Redis
from benchmarks.two_hosts import EXCHANGE, REQUESTS, Means, consuming, durable_write, node_settings

#: Between two joins.
PAUSE_S = 0.05


class Answering:
    """Bare pika that answers requests with `text`, on a thread of this process."""

    def __init__(self, url: str, text: bytes) -> None:
        self._connection, self._channel, _ = consuming(url)
        self._channel.queue_declare(REQUESTS, auto_delete=True, durable=True)
        self._channel.basic_consume(REQUESTS, self._answer, auto_ack=True)
        self._text = text
        self._thread = threading.Thread(target=self._channel.start_consuming, daemon=True)
        self._thread.start()

    def _answer(self, channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        channel.basic_publish("", properties.reply_to, self._text)

    def close(self) -> None:
        self._connection.add_callback_threadsafe(self._channel.stop_consuming)
        self._thread.join(10)
        self._connection.close()


def joins(means: Means, url: str, redis_ports: list[int], rounds: int) -> dict[str, list[float]]:
    """Seconds of each join by each means, in turns, in one process that has imported everything."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_join, args=(theirs, means, url, redis_ports, rounds), daemon=True)
    process.start()
    theirs.close()
    taken: dict[str, list[float]] = ours.recv()
    process.join()
    return taken


def _join(pipe: Any, means: Means, url: str, redis_ports: list[int], rounds: int) -> None:
    ways: dict[str, Any] = {
        "ours": _our_join,
        "raw": lambda _place: _raw_join(url),
        "raw, kept in a file": lambda place: _raw_join(url, place),
        **{f"redis {port}": lambda _place, port=port: _redis_join(port) for port in redis_ports},
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, join in ways.items():
            place = means._replace(directory=means.directory / f"{number}")
            place.directory.mkdir(parents=True)
            # from rest: the broker and the peer still tidy up after the one before
            time.sleep(PAUSE_S)
            seconds = join(place)
            shutil.rmtree(place.directory)
            if number:  # the first one imports
                taken[way].append(seconds)
    pipe.send(taken)


def _our_join(means: Means) -> float:
    from miros_cache_net import CacheNode
    from miros_cache_net.statechart.listener import Listener

    joined, settings = threading.Event(), node_settings(means)
    at_s = 0.0

    def heard(payload: Any) -> None:
        nonlocal at_s
        if "n" in payload.dict and not joined.is_set():
            at_s = time.monotonic()
            joined.set()

    subscriber = Listener({"CACHE": heard})
    began_s = time.monotonic()
    node = CacheNode(settings=settings)
    if not joined.wait(60):
        raise TimeoutError("the node has not joined")
    node.stop()
    subscriber.stop()
    return at_s - began_s


def _raw_join(url: str, means: Means | None = None) -> float:
    import pika

    began_s = time.monotonic()
    connection, channel, queue = consuming(url)
    channel.queue_bind(queue, EXCHANGE, "from.*")
    channel.queue_declare(REQUESTS, auto_delete=True, durable=True)
    answers: list[bytes] = []
    channel.basic_consume(queue, lambda *delivered: answers.append(delivered[3]), auto_ack=True)
    channel.basic_publish("", REQUESTS, b"", pika.BasicProperties(reply_to=queue))
    while not answers:
        connection.process_data_events(time_limit=60)
    if means is not None:
        durable_write(means.directory, answers[0])
    ended_s = time.monotonic()
    connection.close()
    return ended_s - began_s


def _redis_join(port: int) -> float:
    began_s = time.monotonic()
    subscription, redis = Redis(port), Redis(port)
    subscription.call("SUBSCRIBE", "news")
    redis.call("GET", "document")
    ended_s = time.monotonic()
    redis.close()
    subscription.close()
    return ended_s - began_s
