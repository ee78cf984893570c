"""A broker of 3.10 becomes one of 4.0, as docs/how-to/upgrade-and-recovery.md has it: nothing is lost meanwhile."""

from __future__ import annotations

import faulthandler
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.cli.health import judged
from miros_cache_net.testing import Fleet, Host, RabbitFailed, RabbitServer, wait_until
from tests.cluster.stand_ins import ROOT, programs

pytestmark = [pytest.mark.stand_in, pytest.mark.slow]

HOW_TO = ROOT / "docs" / "how-to"


def typed(page: str, command: str) -> str:
    """The rest of the line of that page that begins with `command`."""
    (rest,) = re.findall(rf"^{command} ?(.*)$", (HOW_TO / page).read_text(), re.MULTILINE)
    return str(rest)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RabbitServer]:
    """Of 3.10, with the user of the first day."""
    faulthandler.cancel_dump_traceback_later()  # a busy machine takes half a minute for each start
    monkeypatch.setenv("TEST_RABBITMQ", str(programs("bookworm")))
    with RabbitServer() as server:
        assert server.ctl("version").startswith("3.10.")
        server.add_user("cache", "secret")
        server.ctl("set_permissions", *shlex.split(typed("run-a-fleet.md", "rabbitmqctl set_permissions")))
        yield server


def is_healthy(host: Host, forgiven_s: float = 0.0) -> bool:
    return bool(judged(host.settings.file, forgiven_s)["healthy"])


def test_fleet_goes_on_through_its_brokers_upgrade(server: RabbitServer, tmp_path: Path) -> None:
    with Fleet(tmp_path, server.url_for("cache", "secret"), exchange="miros.cache.exchange") as hosts:
        for name in ("alpha", "beta", "gamma"):
            hosts.add(name).update({f"{name} before": 1})
        hosts.agree(on=lambda contents: len(contents) == len(hosts))
        definitions = tmp_path / "broker.json"
        definitions.write_text(exported(server))
        server.ctl("enable_feature_flag", "all")
        server.stop()
        for host in hosts:
            wait_until(lambda host=host: not is_healthy(host), 30, "it to say no")
            assert is_healthy(host, 3600.0)
            host.update({f"{host.name} meanwhile": 1})
        start_version_4(server)
        server.ctl("import_definitions", str(definitions))
        hosts.agree(on=lambda contents: len(contents) == 2 * len(hosts))
        wait_until(lambda: all(is_healthy(host) for host in hosts), 60, "all to be well")
        assert all("RabbitMQ 4.0." in host.status()["broker"] for host in hosts)


def exported(server: RabbitServer) -> str:
    command, _, rest = typed("upgrade-and-recovery.md", "rabbitmqctl export_definitions").partition(" | ")
    jq, _, _ = rest.partition(" > ")
    text = server.ctl("export_definitions", command)
    done = subprocess.run(shlex.split(jq), input=text, stdout=subprocess.PIPE, text=True, check=True)
    return str(done.stdout)


def start_version_4(server: RabbitServer) -> None:
    """It refuses the data of 3.10, all of whose flags are enabled: it wants those that 3.13 has."""
    server._programs = programs("trixie")
    with pytest.raises(RabbitFailed, match="failed_to_initialize_feature_flags_registry"):
        server.start()
    (server.directory / "data").rename(server.directory / "data.old")
    server.start()
