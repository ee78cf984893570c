"""Keys and certificates across running nodes, on real RabbitMQ."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import NotAuthentic, SettingsError
from miros_cache_net.fleet.place import Place, routing_key
from miros_cache_net.testing import Fleet, Host, RabbitServer, wait_until
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing, generate_key, key_id, list_keys, new_key, promote, remove
from tests.charts.recorder import Recorder
from tests.integration.rabbit_links import channel_to, wait_for_servers


def host_with_key_file(hosts: Fleet, name: str, directory: Path, key: bytes, *, fits: bool = True) -> tuple[Host, Path]:
    keys = directory / f"{name}.keys"
    descriptor = os.open(keys, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, key + b"\n")
    os.close(descriptor)
    return hosts.add(name, wait=fits, keys=(), keys_file=str(keys), digest_interval_s=1.0), keys


class Outsider:
    """Hears what a fleet broadcasts, and says something under a key of its own choice."""

    def __init__(self, place: Place, channel: BlockingChannel) -> None:
        self._place, self._channel = place, channel
        self._queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(self._queue, place.exchange, "cache.#")

    def hears(self, key: bytes) -> bool:
        """Whether the next message is under `key`."""
        self._channel.queue_purge(self._queue)
        got = wait_until(lambda: (got := self._channel.basic_get(self._queue, auto_ack=True))[0] and got, what="one")
        try:
            return bool(KeyRing.from_keys([key]).decrypt(got[2]))
        except NotAuthentic:
            return False

    def write(self, contents: dict[str, Any], key: bytes) -> None:
        ring, now_ms = KeyRing.from_keys([key]), SYSTEM_CLOCK.wall_ms()
        gate = Gate(lambda: ring, scope=self._place.scope, document=self._place.document, node="out", host="out")
        document = Document.unwritten({}).written(contents, Stamp(now_ms, 0, "out"), now_ms)
        body = gate.seal("CACHE", document.to_json()).body
        self._channel.basic_publish(self._place.exchange, routing_key(self._place, "CACHE"), body)


def add_key(path: Path, key: bytes) -> None:
    """What an administrator does by hand or with a copy: the key as the last line."""
    with open(path, "ab") as stream:
        stream.write(key + b"\n")


def test_rotation_under_load_loses_no_write(hosts: Fleet, tmp_path: Path, rabbit_server: RabbitServer) -> None:
    first = generate_key()
    (alpha, alpha_keys), (beta, beta_keys) = (host_with_key_file(hosts, n, tmp_path, first) for n in ("alpha", "beta"))
    alpha.write({"begun": True})
    hosts.agree(on=lambda contents: "begun" in contents)
    ended, written = threading.Event(), []

    def load() -> None:
        for number in range(100_000):
            if ended.is_set():
                return
            alpha.update({f"n{number}": number})
            written.append(f"n{number}")
            ended.wait(0.02)

    def keep_up() -> None:
        """Wait until beta has what is written from now on."""
        so_far = len(written)
        wait_until(lambda: len(written) > so_far + 5, what="the load")
        wait_until(lambda: written[so_far + 4] in beta.read(), what="beta to have it")

    writer = threading.Thread(target=load)
    writer.start()
    try:
        with channel_to(rabbit_server.url) as channel:
            outsider = Outsider(alpha.node.place, channel)
            keep_up()
            second_id = new_key(alpha_keys)
            second = alpha_keys.read_bytes().split()[-1]
            add_key(beta_keys, second)
            wait_until(lambda: outsider.hears(first), what="the new key to be known, the old one to encrypt")
            promote(alpha_keys, second_id)
            wait_until(lambda: outsider.hears(second), what="the new key to encrypt")
            keep_up()
            promote(beta_keys, second_id)
            for host, keys in ((beta, beta_keys), (alpha, alpha_keys)):
                remove(keys, key_id(first))
                wait_until(lambda host=host: host.status()["keys"] == [second_id], what="the old key to be gone")
            keep_up()
            assert outsider.hears(second)
    finally:
        ended.set()
        writer.join()
    hosts.agree(on=lambda contents: set(written) <= set(contents))
    assert not any("not_authentic" in name for name in beta.status()["counters"])
    # another process of alpha's host, started after the rotation, is of the same fleet: no second link
    late = hosts.add("alpha", keys=(), keys_file=str(alpha_keys), wait=False)
    wait_until(lambda: late.connected, what="the late process to know its place")
    assert late.status()["role"] == "follower"


def test_a_removed_key_is_refused(hosts: Fleet, tmp_path: Path, rabbit_server: RabbitServer) -> None:
    old = generate_key()
    alpha, keys = host_with_key_file(hosts, "alpha", tmp_path, old)
    with channel_to(rabbit_server.url) as channel:
        outsider = Outsider(alpha.node.place, channel)
        outsider.write({"by": "a holder of the key"}, old)
        wait_until(lambda: alpha.read() == {"by": "a holder of the key"}, what="the write")
        new_key(keys, primary=True)
        remove(keys, key_id(old))
        outsider.write({"by": "a holder of the removed key"}, old)
        wait_until(lambda: alpha.status()["counters"].get("refused_not_authentic") == 1, what="the refusal")
    assert alpha.read() == {"by": "a holder of the key"}


@pytest.fixture
def errors() -> Iterator[Recorder]:
    """Every `CACHE_ERROR` of this process."""
    made = Recorder("CACHE_ERROR")
    yield made
    made.stop()


def test_host_away_during_rotation_recovers_with_the_key(
    hosts: Fleet, tmp_path: Path, errors: Recorder, rabbit_server: RabbitServer
) -> None:
    old, new = generate_key(), generate_key()
    alpha, _ = host_with_key_file(hosts, "alpha", tmp_path, new)
    alpha.write({"a": 1})
    wait_for_servers(rabbit_server.url, alpha.node.place)
    late, late_keys = host_with_key_file(hosts, "late", tmp_path, old, fits=False)
    said = f"names key {key_id(new)}; this host holds {key_id(old)}: compare `miros-cache-net key list`"
    errors.wait_for(lambda events: any(said in e.payload.message for e in events))
    # the fleet refuses the removed key, and says so once however often the late host asks, and then sends digests
    wait_until(lambda: alpha.status()["counters"].get("refused_not_authentic", 0) >= 5, what="the refusals")
    assert [payload.reason for payload in errors.payloads] == ["key", "key"]
    assert sum(said in payload.message for payload in errors.payloads) == 1
    assert late.read() == {}
    assert late.status()["keys"] == [key_id(old)]
    wait_until(lambda: "a key that this host does not have" in late.status()["trouble"], what="the trouble")
    add_key(late_keys, new)
    promote(late_keys, list_keys(late_keys)[-1].key_id)
    hosts.agree(on=lambda contents: contents == {"a": 1}, timeout_s=30)
    wait_until(lambda: not late.status()["trouble"], what="the end of the trouble")
    assert late.connected


def test_exposed_key_file_is_refused_with_the_remedy(hosts: Fleet, tmp_path: Path) -> None:
    keys = tmp_path / "open.keys"
    keys.write_bytes(generate_key() + b"\n")
    keys.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod"):
        hosts.add("alpha", keys=(), keys_file=str(keys), wait=False)
