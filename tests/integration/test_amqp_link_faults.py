"""What a real RabbitMQ and a real network do to a link, and what the link makes of it."""

from __future__ import annotations

import contextlib
import datetime
import logging
import random
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link import Place, Publication
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.broker_address import BrokerAddress
from miros_cache_net.errors import (
    BrokerError,
    BrokerUnreachable,
    ExchangeConflict,
    LoginRefused,
    QueueConflict,
    SettingsError,
    TLSRefused,
    TopologyLost,
    VhostRefused,
)
from miros_cache_net.testing import RabbitServer, free_port, wait_until
from tests.integration.link_contract import Confirms, Recorder, talk
from tests.integration.tcp_forwarder import TcpForwarder

StartLink = Callable[..., tuple[RabbitLink, Recorder]]


@pytest.fixture
def place() -> Place:
    return Place(f"test.{uuid.uuid4().hex}", "fleet", "cache")


@pytest.fixture
def start_link(place: Place) -> Iterator[StartLink]:
    """Starts a link to given URLs; all are stopped at the test's end."""
    links: list[RabbitLink] = []

    def start(*urls: str, serve: bool = False, **options: object) -> tuple[RabbitLink, Recorder]:
        addresses = [BrokerAddress.parse(url) for url in urls]
        link, recorder = RabbitLink(place, addresses, options=LinkOptions(**options)), Recorder()  # type: ignore[arg-type]
        links.append(link)
        link.serve_requests(serve)
        link.start(recorder)
        return link, recorder

    yield start
    for link in links:
        link.stop()


@pytest.fixture(autouse=True)
def no_contained_faults(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Containment hides faults of ours from users; it must not hide them from these tests."""
    yield
    contained = [record.getMessage() for record in caplog.get_records("call") if "contained" in record.getMessage()]
    assert not contained or "inside_pika" in request.node.name


def is_up(recorder: Recorder, times: int = 1) -> None:
    recorder.wait(ups=times, timeout_s=60)


def told(recorder: Recorder, kind: type[BrokerError]) -> BrokerError:
    """Wait until an error of `kind` is told."""
    wait_until(lambda: kind in map(type, recorder.downs), 30, f"{kind.__name__} to be told")
    return next(error for error in recorder.downs if type(error) is kind)


def sockets_to(port: int) -> int:
    return sum(bool(c.raddr) and c.raddr.port == port for c in psutil.Process().net_connections("tcp"))


@contextlib.contextmanager
def channel_to(url: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()


# --- who is refused, and what it is told -----------------------------------------------------------------


def test_a_wrong_password_is_told_once_and_the_link_comes_up_when_it_is_right(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pika").setLevel(logging.DEBUG)
    user = f"u{uuid.uuid4().hex[:8]}"
    rabbit_server.add_user(user, "right")
    try:
        _, recorder = start_link(rabbit_server.url_for(user, "hunter2"))
        error = told(recorder, LoginRefused)
        rabbit_server.ctl("change_password", user, stdin="hunter2\n")
        is_up(recorder)
    finally:
        logging.getLogger("pika").setLevel(logging.NOTSET)
    assert len(recorder.downs) == 1 and not error.fatal
    assert f"{user}@127.0.0.1:{rabbit_server.port}" in str(error) and "MIROS_CACHE_AMQP_URL" in str(error)
    assert "hunter2" not in str(error) + caplog.text


def test_a_virtual_host_that_is_not_there_is_told_and_awaited(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    vhost = f"v{uuid.uuid4().hex[:8]}"
    _, recorder = start_link(rabbit_server.url_for("guest", "guest", vhost))
    error = told(recorder, VhostRefused)
    assert f"rabbitmqctl add_vhost {vhost}" in str(error)
    rabbit_server.add_vhost(vhost)
    is_up(recorder)
    rabbit_server.ctl("delete_vhost", vhost)
    wait_until(lambda: len(recorder.downs) >= 3, 30)
    # What it is told first depends on what the broker takes down first.
    assert [type(e) for e in recorder.downs[::2]] == [VhostRefused, VhostRefused]
    assert type(recorder.downs[1]) in (BrokerUnreachable, TopologyLost)


def test_a_user_without_permissions_is_told_how_to_get_them(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    user = f"u{uuid.uuid4().hex[:8]}"
    url = rabbit_server.add_user(user, "pw")
    rabbit_server.ctl("set_permissions", user, "", "", "")
    _, recorder = start_link(url)
    assert f"rabbitmqctl set_permissions -p / {user}" in str(told(recorder, VhostRefused))


def test_a_request_queue_with_other_arguments_is_told_and_awaited(
    rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    queue = topology.request_queue_name(place)
    with channel_to(rabbit_url) as channel:
        channel.queue_declare(queue, durable=True)
    _, recorder = start_link(rabbit_url)
    told(recorder, QueueConflict)
    with channel_to(rabbit_url) as channel:
        channel.queue_delete(queue)
    is_up(recorder)


def test_nobody_listening_is_told_once_and_nothing_of_it_comes_from_pika(
    start_link: StartLink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    _, recorder = start_link(f"amqp://u:hunter2@127.0.0.1:{port}")
    error = told(recorder, BrokerUnreachable)
    assert f"amqp://u@127.0.0.1:{port}" in str(error) and "refused" in str(error) and "\n" not in str(error)
    assert not [record for record in caplog.records if record.name.startswith("pika")]


def test_a_name_that_does_not_exist_is_told(start_link: StartLink) -> None:
    _, recorder = start_link("amqp://no-such-host.invalid")
    assert "no-such-host.invalid" in str(told(recorder, BrokerUnreachable))


@pytest.mark.parametrize(
    "greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00", b"\xff" * 200_000]
)
def test_a_server_that_speaks_no_amqp_is_told_and_given_up(start_link: StartLink, greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        _, recorder = start_link(f"amqp://127.0.0.1:{server.getsockname()[1]}", connect_timeout_s=0.5)
        server.settimeout(20)
        for _ in range(2):
            peer, _ = server.accept()
            with contextlib.suppress(OSError):
                peer.sendall(greeting)
            peer.close() if greeting.startswith(b"AMQP") else recorder.__dict__.setdefault("peers", []).append(peer)
        told(recorder, BrokerUnreachable)
        for peer in recorder.__dict__.get("peers", []):
            peer.close()


def test_addresses_are_tried_in_turn_until_one_answers(rabbit_url: str, start_link: StartLink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_url = f"amqp://127.0.0.1:{silent.getsockname()[1]}"
        _, recorder = start_link(f"amqp://127.0.0.1:{free_port()}", silent_url, rabbit_url, connect_timeout_s=0.3)
        is_up(recorder)
    assert recorder.downs == []
    assert rabbit_url.rpartition("@")[2].split("/")[0] in recorder.ups[0].broker


# --- a broker that dies, stops, or takes nothing ---------------------------------------------------------------


def test_each_publication_is_settled_once_while_the_broker_is_killed_under_it(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    link, recorder = start_link(rabbit_url)
    is_up(recorder)
    confirms = Confirms()
    killer = threading.Thread(target=rabbit_server.kill)
    sent = 0
    while not recorder.downs:
        if len(confirms.results) > sent - limits.PUBLISH_BACKLOG // 2:
            link.publish(Publication(b"x" * 2000, kind="CACHE", done=confirms.of(sent)))
            sent += 1
        if sent == 500 and killer.ident is None:
            killer.start()
    killer.join()
    rabbit_server.start()
    is_up(recorder, 2)
    link.publish(Publication(b"after", kind="CACHE", done=confirms.of(sent)))
    assert len(confirms.wait(sent + 1)) == sent + 1
    assert len({number for number, _ in confirms.results}) == sent + 1
    assert confirms.results[-1] == (sent, True)


def test_a_memory_alarm_blocks_publications_only_and_they_are_done_when_it_is_over(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    options = {"canary_interval_s": 0.1, "canary_timeout_s": 0.5}
    (link, at_link), (_, at_other) = start_link(rabbit_url, **options), start_link(rabbit_url, **options)
    is_up(at_link)
    is_up(at_other)
    talk(link, at_other, b"before")
    confirms = Confirms()
    rabbit_server.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        for number in range(10):
            link.publish(Publication(b"%d" % number, kind="CACHE", done=confirms.of(number)))
        # The broker's own shell publishes past the alarm.
        rabbit_server.ctl("eval", _publish_inside(at_link.own_queue, "inside"))
        wait_until(lambda: b"inside" in at_link.bodies, 20, "a consumer going on during the alarm")
        assert confirms.results == []
    finally:
        rabbit_server.ctl("set_vm_memory_high_watermark", "0.4")
    assert sorted(confirms.wait(10)) == [(number, True) for number in range(10)]
    wait_until(lambda: b"9" in at_other.bodies)
    assert at_link.order[0] == "up" and not at_link.downs and not at_other.downs


def _publish_inside(queue: str, body: str) -> str:
    return f'rabbit_basic:publish(rabbit_misc:r(<<"/">>, exchange, <<>>), <<"{queue}">>, [], <<"{body}">>).'


def test_a_connection_that_goes_silent_is_noticed_by_its_heartbeat_and_stop_does_not_hang_on_it(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    with TcpForwarder(rabbit_server.port) as forwarder:
        link, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}", heartbeat_s=1, connect_timeout_s=1.0)
        is_up(recorder)
        forwarder.freeze()
        told(recorder, BrokerUnreachable)
        forwarder.thaw()
        is_up(recorder, 2)
        forwarder.freeze()
        confirms = Confirms()
        link.publish(Publication(b"never confirmed", kind="CACHE", done=confirms.of(0)))
        link.stop()
        assert confirms.results == [(0, False)]
        assert sockets_to(forwarder.port) == 0
        assert not [thread for thread in threading.enumerate() if "miros-cache-link" in thread.name]


def test_a_broker_that_logs_in_and_then_says_nothing_is_told(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    channel_open_ok = b"\x00\x14\x00\x0b"
    with TcpForwarder(rabbit_server.port, freeze_on=channel_open_ok) as forwarder:
        # Without heartbeats nothing else would notice.
        _, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}", heartbeat_s=0, connect_timeout_s=0.2)
        assert "does not answer" in str(told(recorder, BrokerUnreachable))


def test_a_cut_connection_is_followed_by_one_to_the_next_address(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    with TcpForwarder(rabbit_server.port) as forwarder:
        _, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}", rabbit_url)
        is_up(recorder)
        forwarder.refuse()
        is_up(recorder, 2)
    assert [type(error) for error in recorder.downs] == [BrokerUnreachable]
    assert str(rabbit_server.port) in recorder.ups[1].broker


def test_a_paused_broker_is_left_and_found_again(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    link, recorder = start_link(rabbit_url, heartbeat_s=1, connect_timeout_s=0.5)
    is_up(recorder)
    rabbit_server.pause()
    try:
        told(recorder, BrokerUnreachable)
    finally:
        rabbit_server.resume()
    is_up(recorder, 2)
    _, other = start_link(rabbit_url)
    is_up(other)
    talk(link, other, b"after")


# --- the broker's furniture --------------------------------------------------------------------------------------


def test_an_exchange_deleted_and_made_again_leaves_no_link_deaf(
    rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    sockets = sockets_to(BrokerAddress.parse(rabbit_url).port)
    # So long a time out that only the canary's return can tell.
    options = {"canary_interval_s": 0.3, "canary_timeout_s": 600.0}
    (link, at_link), (_, at_other) = start_link(rabbit_url, **options), start_link(rabbit_url, **options)
    is_up(at_link)
    is_up(at_other)
    with channel_to(rabbit_url) as channel:
        channel.exchange_delete(place.exchange)
        channel.exchange_declare(place.exchange, "topic", durable=True)
    is_up(at_other, 2)
    assert [type(error) for error in at_other.downs] == [TopologyLost]
    talk(link, at_other, b"after")
    wait_until(lambda: sockets_to(BrokerAddress.parse(rabbit_url).port) == sockets + 4, what="the lost sockets to go")


def test_a_deleted_queue_is_noticed_without_waiting_for_a_canary(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    _, recorder = start_link(rabbit_url, canary_interval_s=600.0, serve=True)
    is_up(recorder)
    rabbit_server.ctl("delete_queue", recorder.own_queue)
    is_up(recorder, 2)
    rabbit_server.ctl("delete_queue", topology.request_queue_name(place))
    is_up(recorder, 3)
    assert [type(error) for error in recorder.downs] == [TopologyLost, TopologyLost]


def test_after_a_fatal_error_nothing_is_tried_any_more(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    class NoPause(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return 0.0

    with channel_to(rabbit_url) as channel:
        channel.exchange_declare(place.exchange, "fanout", durable=True)
    with TcpForwarder(rabbit_server.port) as forwarder:
        address = BrokerAddress("127.0.0.1", forwarder.port)
        link, recorder = RabbitLink(place, [address], rng=NoPause()), Recorder()
        link.start(recorder)
        told(recorder, ExchangeConflict)
        # Time enough for those who go on trying without a pause.
        _, other = start_link(f"amqp://nobody@127.0.0.1:{rabbit_server.port}")
        told(other, LoginRefused)
        link.stop()
        assert forwarder.accepted == 2


def test_canaries_are_heard_by_nobody_and_a_quiet_link_stays_up(
    rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    _, recorder = start_link(rabbit_url, canary_interval_s=0.02, canary_timeout_s=20.0)
    _, other = start_link(rabbit_url)
    is_up(recorder)
    is_up(other)
    with channel_to(rabbit_url) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, place.exchange, "canary.#")
        wait_until(lambda: channel.queue_declare(queue, passive=True).method.message_count >= 10)
    assert recorder.order == other.order == ["up"]


def test_a_missing_canary_is_noticed_within_its_time(
    rabbit_url: str, start_link: StartLink, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A canary into a key that is bound elsewhere is neither returned nor heard.
    with channel_to(rabbit_url) as channel:
        channel.exchange_declare(place.exchange, "topic", durable=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, place.exchange, "lost.*")
        _, recorder = start_link(rabbit_url, canary_interval_s=0.2, canary_timeout_s=0.2)
        is_up(recorder)
        monkeypatch.setattr(topology, "canary_key", lambda token: f"lost.{token}")
        told(recorder, TopologyLost)
        monkeypatch.undo()
    is_up(recorder, 2)


def test_a_server_that_hangs_keeps_few_requests_from_the_others(rabbit_url: str, start_link: StartLink) -> None:
    asker, at_asker = start_link(rabbit_url)
    hanging, at_hanging = start_link(rabbit_url, serve=True)
    is_up(at_asker)
    is_up(at_hanging)
    release = threading.Event()

    def hang(_taken: bool) -> None:
        release.wait(20)

    hanging.publish(Publication(b"", queue=at_hanging.own_queue, done=hang))
    _, at_other = start_link(rabbit_url, serve=True)
    is_up(at_other)
    for number in range(40):
        asker.publish(Publication(b"%d" % number, requests=True))
    at_other.wait(deliveries=40 - limits.REQUEST_PREFETCH)
    release.set()
    wait_until(lambda: len(at_hanging.deliveries) + len(at_other.deliveries) == 41)


def test_every_message_is_acknowledged_soon_not_only_full_batches(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    link, recorder = start_link(rabbit_url)
    is_up(recorder)
    link.publish(Publication(b"one", queue=recorder.own_queue))
    recorder.wait(deliveries=1)

    def kept() -> dict[str, str]:
        rows = rabbit_server.ctl("list_queues", "name", "messages", "--no-table-headers").splitlines()
        return dict(row.split("\t") for row in rows)

    wait_until(lambda: kept()[recorder.own_queue] == "0")


# --- what strangers send ---------------------------------------------------------------------------------------------


def test_properties_that_cannot_be_decoded_cost_neither_the_message_nor_the_link(
    rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    _, recorder = start_link(rabbit_url)
    is_up(recorder)
    deep = b"F\x00\x00\x00\x00"
    for _ in range(2000):
        deep = b"F" + (len(deep) + 2).to_bytes(4, "big") + b"\x01a" + deep
    far = b"T" + b"\xff" * 8
    for number, value in enumerate((far, deep)):
        _publish_raw(rabbit_url, recorder.own_queue, b"hostile %d" % number, value)
    with channel_to(rabbit_url) as channel:
        headers = {"key-id": 7, "x": [None, {"y": b"\xff"}]}
        properties = pika.BasicProperties(reply_to="somebody.elses.queue", headers=headers, app_id="x" * 255)
        channel.basic_publish("", recorder.own_queue, b"odd", properties)
    wait_until(lambda: b"odd" in recorder.bodies)
    assert recorder.bodies == [b"hostile 0", b"hostile 1", b"odd"]
    assert all(d.reply_to == "" and d.key_id == "" for d in recorder.deliveries)
    assert recorder.order.count("up") == 1 and not recorder.downs


def _publish_raw(url: str, queue: str, body: bytes, value: bytes) -> None:
    """Publish with one header whose encoded `value` pika itself would not make."""

    class RawProperties(pika.BasicProperties):  # type: ignore[misc]
        def encode(self) -> list[bytes]:
            table = b"\x01h" + value
            return [(1 << 13).to_bytes(2, "big"), len(table).to_bytes(4, "big"), table]

    with channel_to(url) as channel:
        channel.basic_publish("", queue, body, RawProperties())
        channel.queue_declare(queue="", exclusive=True)


def test_a_flood_keeps_only_the_newest_messages(rabbit_url: str, start_link: StartLink) -> None:
    release = threading.Event()

    class Slow(Recorder):
        def delivered(self, delivery: object) -> None:
            release.wait(20)
            super().delivered(delivery)  # type: ignore[arg-type]

    _, recorder = start_link(rabbit_url)
    is_up(recorder)
    recorder.__class__ = Slow
    with channel_to(rabbit_url) as channel:
        for number in range(3 * limits.NODE_QUEUE_MESSAGES):
            channel.basic_publish("", recorder.own_queue, b"%d" % number)
    release.set()
    wait_until(lambda: b"%d" % (3 * limits.NODE_QUEUE_MESSAGES - 1) in recorder.bodies, 20)
    assert len(recorder.bodies) <= limits.NODE_QUEUE_MESSAGES + limits.PREFETCH
    assert not recorder.downs


# --- the link's own life --------------------------------------------------------------------------------------------


def test_a_link_has_two_connections_and_none_of_it_is_left_after_stop(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    before = set(threading.enumerate())
    sockets = sockets_to(rabbit_server.port)
    files = psutil.Process().num_fds()
    link, recorder = start_link(rabbit_url, serve=True)
    is_up(recorder)
    assert sockets_to(rabbit_server.port) == sockets + 2
    link.stop()
    assert sockets_to(rabbit_server.port) == sockets
    assert psutil.Process().num_fds() == files
    assert set(threading.enumerate()) == before


def test_a_link_that_never_came_up_leaves_nothing_either(start_link: StartLink) -> None:
    files = psutil.Process().num_fds()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for url in (f"amqp://127.0.0.1:{silent.getsockname()[1]}", f"amqp://127.0.0.1:{free_port()}"):
            link, _ = start_link(url)
            link.stop()
    wait_until(lambda: psutil.Process().num_fds() == files)
    assert not [thread for thread in threading.enumerate() if "miros-cache-link" in thread.name]


def test_a_fault_inside_pika_costs_the_session_and_not_the_thread(
    rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (link, at_link), (_, at_other) = start_link(rabbit_url), start_link(rabbit_url)
    is_up(at_link)
    is_up(at_other)

    def planted() -> None:
        raise ZeroDivisionError("planted")

    assert link._thread is not None
    link._thread._services.add_callback_threadsafe(planted)
    is_up(at_link, 2)
    assert [type(error) for error in at_link.downs] == [BrokerUnreachable]
    assert "ZeroDivisionError" in caplog.text
    talk(link, at_other, b"after")


# --- TLS ------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A PEM file that is certificate, authority and key of "localhost"."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "authority.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.fixture
def tls_port(authority: Path, rabbit_server: RabbitServer, rabbit_url: str) -> Iterator[int]:
    """A port where TLS ends and the broker begins."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with TcpForwarder(rabbit_server.port, tls=context) as forwarder:
        yield forwarder.port


def test_tls_with_a_trusted_authority_carries_messages(
    tls_port: int, authority: Path, start_link: StartLink, rabbit_url: str
) -> None:
    link, recorder = start_link(f"amqps://localhost:{tls_port}", tls_ca_file=authority)
    _, other = start_link(rabbit_url)
    is_up(recorder)
    is_up(other)
    talk(link, other, b"x" * 1_000_000)
    link.stop()
    assert sockets_to(tls_port) == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_that_is_not_trusted_or_for_another_host_is_refused(
    tls_port: int, authority: Path, start_link: StartLink, host: str
) -> None:
    trusted = authority if host != "localhost" else None
    _, recorder = start_link(f"amqps://{host}:{tls_port}", tls_ca_file=trusted)
    error = told(recorder, TLSRefused)
    assert "certificate" in str(error) and f"{host}:{tls_port}" in str(error) and "\n" not in str(error)
    assert not recorder.ups


def test_without_verification_any_certificate_will_do(tls_port: int, start_link: StartLink) -> None:
    _, recorder = start_link(f"amqps://127.0.0.1:{tls_port}", tls_verify=False)
    is_up(recorder)


def test_tls_to_a_port_without_it_and_the_other_way_round_is_told(
    tls_port: int, rabbit_server: RabbitServer, start_link: StartLink
) -> None:
    _, at_plain = start_link(f"amqps://127.0.0.1:{rabbit_server.port}", connect_timeout_s=1.0)
    _, at_tls = start_link(f"amqp://127.0.0.1:{tls_port}", connect_timeout_s=1.0)
    told(at_plain, TLSRefused)
    told(at_tls, BrokerUnreachable)


def test_an_unreadable_file_of_authorities_is_a_settings_error(tmp_path: Path, place: Place) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for file in (tmp_path / "missing.pem", empty, tmp_path):
        with pytest.raises(SettingsError, match="MIROS_CACHE_TLS_CA_FILE"):
            RabbitLink(place, [BrokerAddress.parse("amqps://localhost")], options=LinkOptions(tls_ca_file=file))
