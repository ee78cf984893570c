"""A RabbitMQ that does not grant the shared request queue, or no lease, and what a link makes of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.link import Publication
from miros_cache_net.fleet.place import Place, request_queue_name
from miros_cache_net.testing import RabbitServer, wait_until
from tests.integration.link_contract import Confirms, acquired, talk
from tests.integration.rabbit_links import StartLink, channel_to, is_up, requests_at, wait_for_servers

#: Every name but those of request queues, of leases, and the default exchange.
NO_REQUESTS, NO_LEASES, NO_DEFAULT = r"^(?!cache\.requests).*", r"^(?!cache\.lease).*", r"^(?!amq\.default).*"
ALL = ".*"


@dataclass
class User:
    """One whose rights change."""

    server: RabbitServer
    name: str
    url: str

    def may(self, configure: str, write: str, read: str) -> None:
        self.server.ctl("set_permissions", self.name, configure, write, read)


@pytest.fixture
def user(rabbit_server: RabbitServer) -> Iterator[User]:
    name = f"u{uuid.uuid4().hex[:8]}"
    yield User(rabbit_server, name, rabbit_server.add_user(name, "pw"))
    rabbit_server.ctl("delete_user", name)


@pytest.fixture(autouse=True)
def tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_QUEUE_RETRY_S", 0.1)


@pytest.mark.parametrize("rights", [(NO_REQUESTS, ALL, ALL), (ALL, ALL, NO_REQUESTS)], ids=["declare", "consume"])
def test_rights_without_requests_keep_no_link_out(
    user: User,
    rights: tuple[str, str, str],
    rabbit_url: str,
    start_link: StartLink,
    place: Place,
    caplog: pytest.LogCaptureFixture,
) -> None:
    user.may(*rights)
    (link, recorder), (_, at_other) = start_link(user.url, serve=True), start_link(rabbit_url)
    is_up(recorder)
    is_up(at_other)
    talk(link, at_other, b"news")
    wait_until(lambda: "is unavailable" in caplog.text, what="the refusal to be told")
    user.may(ALL, ALL, ALL)
    wait_for_servers(rabbit_url, place)
    assert recorder.order == ["up"]
    told = [record.getMessage() for record in caplog.records if "is unavailable" in record.getMessage()]
    assert len(told) == 1 and "403 ACCESS_REFUSED" in told[0] and user.name in told[0]


def test_request_that_rights_forbid_is_lost_alone(
    user: User, rabbit_url: str, start_link: StartLink, caplog: pytest.LogCaptureFixture
) -> None:
    user.may(ALL, NO_DEFAULT, ALL)
    (link, recorder), (_, at_other) = start_link(user.url), start_link(rabbit_url, serve=True)
    is_up(recorder)
    is_up(at_other)
    confirms = Confirms()
    for number in range(2):
        link.publish(Publication(b"question", requests=True, done=confirms.of(number)))
    assert sorted(confirms.wait(2)) == [(0, False), (1, False)]
    talk(link, at_other, b"news")
    assert recorder.order == ["up"]
    assert "403 ACCESS_REFUSED" in caplog.text
    user.may(ALL, ALL, ALL)

    def answered() -> bool:
        link.publish(Publication(b"once more", requests=True))
        wait_until(lambda: b"once more" in at_other.bodies, 0.2)
        return True

    wait_until(answered, what="a request to be served")


def test_request_queue_with_other_arguments_is_awaited(
    rabbit_url: str, start_link: StartLink, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    queue = request_queue_name(place)
    with channel_to(rabbit_url) as channel:
        channel.queue_declare(queue, durable=True)
    _, recorder = start_link(rabbit_url, serve=True)
    is_up(recorder)
    assert recorder.ups[0].request_servers is None
    with channel_to(rabbit_url) as channel:
        channel.queue_delete(queue)
    wait_for_servers(rabbit_url, place)
    told = [record.getMessage() for record in caplog.records if "is unavailable" in record.getMessage()]
    assert len(told) == 1 and "406 PRECONDITION_FAILED" in told[0]
    assert recorder.order == ["up"]


def test_idle_asker_finds_a_deleted_request_queue(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    (asker, at_asker), name = start_link(rabbit_url), request_queue_name(place)
    is_up(at_asker)
    rabbit_server.ctl("delete_queue", name)

    def waiting() -> bool:
        asker.publish(Publication(b"question", requests=True))
        return requests_at(rabbit_url, place)[0] > 0

    rabbit_server.ctl("list_queues")  # the deletion is over
    asker.publish(Publication(b"comes back", requests=True))
    wait_until(lambda: name in rabbit_server.ctl("list_queues", "name"), what="the queue to be declared again")
    wait_until(waiting, what="a question to stay there")
    assert at_asker.order == ["up"]


def test_where_rights_grant_no_lease_everybody_may_discover(user: User, rabbit_url: str, start_link: StartLink) -> None:
    user.may(NO_LEASES, ALL, ALL)
    links = [start_link(user.url) for _ in range(2)]
    for _, recorder in links:
        is_up(recorder)
    for link, recorder in links:
        assert acquired(link)
        link.release_lease()
        assert recorder.order == ["up"]
    user.may(ALL, ALL, ALL)
    (alpha, _), (beta, _) = links

    def alone() -> bool:
        return acquired(alpha) and not acquired(beta)

    wait_until(alone, what="the lease of alpha alone")


def test_late_lease_of_frozen_broker_is_given_back(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LEASE_WAIT_S", 0.2)
    (alpha, at_alpha), (beta, at_beta) = (start_link(rabbit_url, heartbeat_s=60) for _ in range(2))
    is_up(at_alpha)
    is_up(at_beta)
    rabbit_server.pause()
    try:
        assert acquired(alpha), "nobody could have it"
        alpha.release_lease()
    finally:
        rabbit_server.resume()
    monkeypatch.setattr(limits, "LEASE_WAIT_S", 60.0)
    assert at_alpha.order == at_beta.order == ["up"]
    alpha.acquire_lease(lambda _held: None)
    alpha.release_lease()
    wait_until(lambda: acquired(beta), what="the lease to be free")
    assert not acquired(alpha)
