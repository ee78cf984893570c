"""A broker that wants a client certificate, and takes it for a login (EXTERNAL)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, Verdict
from miros_cache_net.discovery.probe.target import target_for
from miros_cache_net.errors import BrokerError, LoginRefused, SettingsError, TLSRefused
from miros_cache_net.fleet.place import Place
from miros_cache_net.settings import Settings
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import RabbitServer, free_port
from tests.certificates import Certificate, issue
from tests.integration.rabbit_links import StartLink, is_up, told


@dataclass
class StrictRabbit:
    server: RabbitServer
    url: str
    authority: Certificate
    client: Certificate
    stranger: Certificate

    def options(self, **more: object) -> dict[str, object]:
        return {"tls_ca_file": self.authority.path, **more}

    def shown(self, certificate: Certificate, **more: object) -> dict[str, object]:
        return self.options(tls_certificate_file=certificate.path, tls_key_file=certificate.key_path, **more)


@pytest.fixture(scope="module", params=["tlsv1.3", "tlsv1.2"])
def strict_rabbit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictRabbit]:
    directory = tmp_path_factory.mktemp("certificates")
    authority = issue(directory, "authority")
    server_certificate = issue(directory, "server", authority)
    port = free_port()
    config = (
        f"listeners.ssl.1 = 127.0.0.1:{port}\n"
        f"ssl_options.cacertfile = {authority.path}\n"
        f"ssl_options.certfile = {server_certificate.path}\n"
        f"ssl_options.keyfile = {server_certificate.key_path}\n"
        "ssl_options.verify = verify_peer\n"
        "ssl_options.fail_if_no_peer_cert = true\n"
        f"ssl_options.versions.1 = {request.param}\n"
        "ssl_cert_login_from = common_name\n"
        "auth_mechanisms.1 = EXTERNAL\n"
    )
    with RabbitServer(config=config) as server:
        plugins = server.directory / "plugins"
        plugins.write_text("[rabbitmq_auth_mechanism_ssl].\n")
        server.ctl("eval", f'rabbit_plugins:ensure("{plugins}").')
        server.ctl("add_user", "client", stdin="unused\n")
        server.ctl("set_permissions", "client", ".*", ".*", ".*")
        client, stranger = issue(directory, "client", authority), issue(directory, "stranger", authority)
        yield StrictRabbit(server, f"amqps://127.0.0.1:{port}", authority, client, stranger)


def test_a_certificate_is_shown_and_is_the_login(strict_rabbit: StrictRabbit, start_link: StartLink) -> None:
    _, recorder = start_link(strict_rabbit.url, **strict_rabbit.shown(strict_rabbit.client, external_login=True))
    is_up(recorder)
    assert recorder.downs == []
    assert "client" in strict_rabbit.server.ctl("list_connections", "user")


def test_what_a_strict_broker_wants_is_told(strict_rabbit: StrictRabbit, start_link: StartLink) -> None:
    cases: list[tuple[dict[str, object], type[BrokerError], str]] = [
        (strict_rabbit.options(), TLSRefused, "MIROS_CACHE_TLS_CERTIFICATE_FILE"),
        (strict_rabbit.shown(strict_rabbit.client), LoginRefused, "MIROS_CACHE_EXTERNAL_LOGIN"),
        (strict_rabbit.shown(strict_rabbit.stranger, external_login=True), LoginRefused, "name in the client cert"),
    ]
    for options, kind, mend in cases:
        link, recorder = start_link(strict_rabbit.url, **options)
        assert mend in str(told(recorder, kind))
        link.stop()


def test_a_scout_logs_in_by_certificate(strict_rabbit: StrictRabbit) -> None:
    def scout(**settings: object) -> ProbeResult:
        made = Settings(amqp_urls=strict_rabbit.url, scout_timeout_s=20, **settings)
        port = made.amqp_urls[0].port
        answer: Future[ProbeResult] = Future()
        with closing(Prober()) as prober:
            prober.probe(target_for(made, f"127.0.0.1:{port}", "amq.topic"), answer.set_result)
            return answer.result(60)

    assert scout(**strict_rabbit.shown(strict_rabbit.client, external_login=True)).verdict is Verdict.OK
    assert scout(**strict_rabbit.shown(strict_rabbit.client)).verdict is Verdict.LOGIN_REFUSED
    assert scout(**strict_rabbit.options()).verdict is Verdict.TLS_MISMATCH


def test_unusable_certificate_is_a_settings_error(tmp_path: Path, place: Place) -> None:
    mine, other = issue(tmp_path, "mine"), issue(tmp_path, "other")
    empty = tmp_path / "empty.pem"
    empty.touch()
    for certificate, key in ((empty, None), (mine.path, None), (mine.path, other.key_path), (tmp_path, None)):
        options = LinkOptions(tls_certificate_file=certificate, tls_key_file=key)
        with pytest.raises(SettingsError, match="MIROS_CACHE_TLS_CERTIFICATE_FILE"):
            RabbitLink(place, [BrokerAddress.parse("amqps://localhost")], options=options)
