"""A fleet on a RabbitMQ cluster of three, with one member killed and one paused under load."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import Fleet, Host, RabbitCluster, wait_until

#: Erlang notices a silent member within a quarter more than this, RabbitMQ's default is 60 s.
TICK_S = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[RabbitCluster]:
    with RabbitCluster(3, config=f"net_ticktime = {TICK_S}\n") as made:
        yield made


def rotated(cluster: RabbitCluster, first: int) -> str:
    urls = [server.url for server in cluster.servers]
    return ",".join(urls[first:] + urls[:first])


def test_members_killed_and_paused_under_load_cost_no_acknowledged_write(
    cluster: RabbitCluster, tmp_path: Path
) -> None:
    with Fleet(tmp_path, cluster.urls) as hosts:
        names = ("alpha", "beta", "gamma")
        members = [
            hosts.add(name, amqp_urls=rotated(cluster, number), heartbeat_s=2, digest_interval_s=1.0)
            for number, name in enumerate(names)
        ]
        written: list[str] = []
        ended = threading.Event()

        def load(number: int) -> None:
            for count in range(100_000):
                if ended.is_set():
                    return
                key = f"{names[number]}-{count}"
                members[number].update({key: count})
                written.append(key)
                ended.wait(0.05)

        members[0].write({})
        hosts.agree()
        writers = [threading.Thread(target=load, args=(number,)) for number in range(3)]
        for writer in writers:
            writer.start()
        try:
            wait_until(lambda: len(written) > 30, what="the load")
            cluster.servers[2].kill()
            wait_until(lambda: on_another_member(members, cluster, 2), timeout_s=60, what="gamma to move")
            cluster.servers[1].pause()
            wait_until(lambda: on_another_member(members, cluster, 1), timeout_s=90, what="beta to move")
            so_far = len(written)
            wait_until(lambda: len(written) > so_far + 30, what="more load")
        finally:
            ended.set()
            for writer in writers:
                writer.join()
            cluster.servers[1].resume()
        hosts.agree(on=lambda contents: set(written) <= set(contents), timeout_s=90)


def on_another_member(members: list[Host], cluster: RabbitCluster, lost: int) -> bool:
    broker = members[lost].status()["broker"]
    return bool(broker) and str(cluster.servers[lost].port) not in broker
