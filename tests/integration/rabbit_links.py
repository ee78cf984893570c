"""Links to a real RabbitMQ for tests: start them, wait for what they tell, count what they hold."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pika
import psutil
from pika.adapters.blocking_connection import BlockingChannel

from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.look_up import GetAddrInfo
from miros_cache_net.errors import BrokerError
from miros_cache_net.fleet.place import Place, document_topology, request_queue_arguments, request_queue_name
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import RabbitServer, wait_until
from tests.integration.link_contract import Recorder

StartLink = Callable[..., tuple[RabbitLink, Recorder]]


class Links:
    """Starts links of one place; as a context manager it stops them all."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._links: list[RabbitLink] = []

    def start(
        self, *urls: str, serve: bool = False, getaddrinfo: GetAddrInfo = socket.getaddrinfo, **options: object
    ) -> tuple[RabbitLink, Recorder]:
        addresses = [BrokerAddress.parse(url) for url in urls]
        link, recorder = (
            RabbitLink(
                document_topology(self._place),
                addresses,
                options=LinkOptions(**options),  # type: ignore[arg-type]
                getaddrinfo=getaddrinfo,
            ),
            Recorder(),
        )
        self._links.append(link)
        link.serve_requests(serve)
        link.start(recorder)
        return link, recorder

    def stop(self) -> None:
        for link in self._links:
            link.stop()


def is_up(recorder: Recorder, times: int = 1) -> None:
    recorder.wait(ups=times, timeout_s=60)


def told(recorder: Recorder, kind: type[BrokerError]) -> BrokerError:
    """Wait until an error of `kind` is told."""
    wait_until(lambda: kind in map(type, recorder.downs), 30, f"{kind.__name__} to be told")
    return next(error for error in recorder.downs if type(error) is kind)


class NewSockets:
    """This process's connections to a port that began after this was made; earlier ones may end meanwhile."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._before = self._now()

    def count(self) -> int:
        return len(self._now() - self._before)

    def _now(self) -> set[object]:
        connections = psutil.Process().net_connections("tcp")
        return {each.laddr for each in connections if each.raddr and each.raddr.port == self._port}


class NewConnections:
    """A broker's connections that began after this was made; it notices the end of earlier ones late."""

    def __init__(self, server: RabbitServer) -> None:
        self._server = server
        self._before = self._now()

    def count(self) -> int:
        return len(self._now() - self._before)

    def _now(self) -> set[str]:
        return set(self._server.ctl("list_connections", "pid", "--no-table-headers").split())


#: The broker's own shell publishes past an alarm; since RabbitMQ 4 in another way.
_PUBLISH_INSIDE = """
X = rabbit_misc:r(<<"/">>, exchange, <<>>), Key = <<"{queue}">>, Body = <<"{body}">>,
Once = case erlang:function_exported(rabbit_basic, publish, 4) of
    true -> fun() -> rabbit_basic:publish(X, Key, [], Body) end;
    false ->
        Properties = list_to_tuple(['P_basic' | lists:duplicate(14, undefined)]),
        {{ok, Message}} = mc_amqpl:message(X, Key, rabbit_basic:build_content(Properties, Body)),
        fun() -> rabbit_queue_type:publish_at_most_once(X, Message) end
end,
[Once() || _ <- lists:seq(1, {count})]."""


def publish_inside(server: RabbitServer, queue: str, body: str, count: int = 1) -> None:
    """So many messages to `queue`, whatever alarm there is."""
    server.ctl("eval", _PUBLISH_INSIDE.format(queue=queue, body=body, count=count))


@contextlib.contextmanager
def channel_to(url: str) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()


def requests_at(url: str, place: Place) -> tuple[int, int]:
    """Messages and consumers of the place's request queue."""
    with channel_to(url) as channel:
        arguments = request_queue_arguments()
        declared = channel.queue_declare(request_queue_name(place), durable=True, arguments=arguments)
        return declared.method.message_count, declared.method.consumer_count


def wait_for_servers(url: str, place: Place, count: int = 1) -> None:
    """A host is in step before RabbitMQ has heard that it answers; who joins in between finds nobody to ask."""
    wait_until(lambda: requests_at(url, place)[1] == count, what=f"{count} to answer requests")
