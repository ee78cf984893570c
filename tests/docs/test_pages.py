"""Every command and snippet of README and how-tos does what a reader expects, as it is typed.

They are typed on a host of a network of their own, with a RabbitMQ on another, where nothing of this machine can be
reached or changed: /etc and /var/lib are copies.
"""

from __future__ import annotations

import configparser
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from miros_cache_net.cache import read_cache
from miros_cache_net.testing import NetworkHost, RabbitServer
from tests.cli_command import SOURCES
from tests.docs.pages import LASTING, SHELL, Block, Shell, blocks_of, pages

#: What is typed elsewhere, or nowhere, and where that is.
ELSEWHERE: Final = {
    r"script/demo": "tests/integration/test_demo.py plays it, script/bootstrap is what script/test begins with",
    r"script/test": "what runs this",
    r"python3 -m venv \.\./tour-env && .* pip install \.": "script/bootstrap; it asks a package index",
    r"miros-cache-net top": "it needs a terminal; tests/unit/test_top.py draws it",
    r"pip install 'miros-cache-net\[(view|metrics)\]'": "script/bootstrap --tests; it asks a package index",
    r"export PROMETHEUS_IMAGE=.*": "tests/cluster/test_compose_monitoring.py",
    r"(BROKERS=\S+ )?docker compose .*": "tests/cluster/: test_docker_page.py, test_compose_*.py",
    r"sudo (python3 -m venv /opt|/opt/miros-cache-net)/.*": "tests/unit/test_service_unit.py; it asks a package index",
    r"kubectl .*": "needs a cluster; tests/cluster/test_kubernetes_pod.py runs the Pod's container",
    r"docker build --tag miros-cache-net .": "tests/cluster/test_compose_fleet.py",
    r"docker run --rm miros-cache-net .*": "tests/cluster/test_docker_page.py",
    r'eval "\$\(script/compose-standins\)"': "tests/cluster/test_docker_page.py",
    r"rabbitmqctl .*": "tests/integration/test_node_rabbit.py, tests/cluster/test_broker_upgrade.py",
    r"sudo (systemctl|mv|apt-get|install) .*rabbitmq.*": "tests/cluster/test_broker_upgrade.py, of two private brokers",
    r"(docker volume rm|RABBITMQ_IMAGE=NEW docker compose) .*": "by hand, as the page says",
    r"(ssh|scp) .*": "needs a second machine; tests/docs/test_pages.py does it to a directory",
}
#: Commands whose answer may be no (of xargs: 123) where there is nobody: here no name of an example leads anywhere.
MAY_SAY_NO: Final = (
    "miros-cache-net discover",
    "cd /srv/my-program && miros-cache-net discover",
    "miros-cache-net health",
    "miros-cache-net trace",
    "jq -r '.hosts[]' .miros_rabbitmq_hosts.json | xargs",
)
KIT: Final = "test-your-program.md"
#: A test in a page, which only a whole cluster can run: tests/cluster/test_compose_fleet.py.
IN_CONTAINERS: Final = "def test_my_program_survives_a_cut(compose_fleet)"
DATA: Final[dict[str, Callable[[str], object]]] = {
    "json": json.loads,
    "diff": str,
    "text": str,
    "yaml": yaml.safe_load,
    "ini": lambda text: configparser.ConfigParser().read_string(f"[rabbitmq]\n{text}"),
}
#: The map of the house in README is no code.
MAP: Final = "miros_cache_net/\n"
PAGES: Final = [page for page in pages() if page.name != KIT]
#: A place of its own for what pages write to; the checkout stays in sight, wherever it is.
SET_UP: Final = """
mount --bind {etc} /etc
mount --bind '{sources}' {kept}
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /srv
mkdir -p '{sources}'
mount --bind {kept} '{sources}'
mkdir -p /srv/my-program /var/lib/myfleet /etc/miros-cache-net
echo '{{"hosts": ["alpha.lab"]}}' > /etc/miros-cache-net/hosts.json
id alice >/dev/null 2>&1 || useradd alice
exec "$@"
"""


@pytest.fixture
def hosts(network_namespaces: Callable[[int], tuple[NetworkHost, ...]]) -> tuple[NetworkHost, ...]:
    return network_namespaces(2)


@pytest.fixture
def broker(hosts: tuple[NetworkHost, ...]) -> Iterator[RabbitServer]:
    with RabbitServer(on=hosts[1]) as server:
        yield server


@pytest.fixture
def shell(hosts: tuple[NetworkHost, ...], broker: RabbitServer, tmp_path: Path) -> Shell:
    """At the host without the broker; whoever is the user is his own `sudo`."""
    etc, home, kept = tmp_path / "etc", tmp_path / "home", tmp_path / "kept"
    shutil.copytree("/etc", etc, symlinks=True, ignore=shutil.ignore_patterns("*.lock"))
    home.mkdir()
    kept.mkdir()
    set_up = SET_UP.format(etc=etc, sources=SOURCES, kept=kept)
    place = hosts[0].command(["unshare", "--mount", "sh", "-euc", set_up, "sh"])
    # the networks of the tests can be trusted
    settings = {"MIROS_CACHE_AMQP_URL": broker.url, "MIROS_CACHE_TRUSTED_NETWORKS": "auto"}
    shell = Shell(home, place, settings)
    beta = tmp_path / "beta"
    beta.mkdir()
    for name, script in {
        "sudo": 'exec "$@"',
        "ssh": f'shift; cd {beta} && exec "$@"',
        "scp": f'exec cp -p "$2" "{beta}/${{3#*:}}"',
    }.items():
        (home / "programs" / name).write_text(f"#!/bin/sh\n{script}\n")
        (home / "programs" / name).chmod(0o755)
    (home / "ergotech.py").write_text("from miros_rabbitmq import NetworkedFactory\n")
    (home / "my.py").touch()
    (home / ".miros_rabbitmq_hosts.json").write_text('{"hosts": ["alpha.lab"]}')
    return shell


def is_elsewhere(command: str) -> bool:
    return any(re.fullmatch(pattern, without_comment(command)) for pattern in ELSEWHERE if pattern[:4] != "(ssh")


def without_comment(command: str) -> str:
    return command.partition("  #")[0].strip()


def type_all(shell: Shell, block: Block) -> None:
    for command in block.commands:
        if is_elsewhere(command):
            continue
        says = next((says for begins, says in LASTING.items() if command.startswith(begins)), None)
        if says is not None:
            assert shell.type_and_end(command, says) == 0, command
            continue
        done = shell.type(command)
        allowed = (0, 1, 123) if command.startswith(MAY_SAY_NO) else (0,)
        assert done.returncode in allowed, f"{command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, f"{command}\n{done.stderr}"


def languages(page: Path) -> set[str]:
    return {block.language for block in blocks_of(page)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_what_a_page_shows_works_as_typed(page: Path, shell: Shell) -> None:
    if page.name != "README.md":  # which makes its key itself
        assert shell.type("miros-cache-net key new").returncode == 0
    printed = []
    for block in blocks_of(page):
        if block.language in DATA:
            DATA[block.language](block.text)
        elif block.language == "python" and IN_CONTAINERS not in block.text:
            done = shell.run_python(block)
            assert (done.returncode, done.stderr) == (0, ""), f"{page.name}:{block.line}\n{done.stdout}{done.stderr}"
            printed.append(done.stdout)
        elif block.language in SHELL or (block.language == "" and not block.text.startswith(MAP)):
            type_all(shell, block)
    assert all(printed), "a snippet ends without a word"


def test_readmes_three_lines_find_the_broker(shell: Shell, broker: RabbitServer) -> None:
    (page, *_) = PAGES
    assert shell.type("miros-cache-net key new").returncode == 0
    (block,) = [block for block in blocks_of(page) if "peers()" in block.text]
    assert len([line for line in block.text.splitlines() if line]) == 3
    assert shell.run_python(block).stdout == f"['{broker.address}']\n"
    assert list(read_cache(shell.directory / "peers.json").dict["addresses"]) == [broker.address]


def test_no_page_has_a_block_that_nothing_reads() -> None:
    for page in PAGES:
        assert languages(page) <= {*DATA, *SHELL, "python", ""}, page


def test_what_is_typed_elsewhere_is_on_a_page() -> None:
    typed = [
        without_comment(command)
        for page in PAGES
        for block in blocks_of(page)
        if block.language in (*SHELL, "")
        for command in block.commands
    ]
    for pattern in ELSEWHERE:
        assert any(re.fullmatch(pattern, command) for command in typed), pattern


def test_no_page_imports_what_is_not_public() -> None:
    import miros_cache_net
    from miros_cache_net import testing

    for page in pages():
        for block in blocks_of(page):
            for module, names in re.findall(r"^from (miros_cache_net\S*) import (.+)$", block.text, re.MULTILINE):
                public = {"miros_cache_net": miros_cache_net.__all__, "miros_cache_net.testing": testing.__all__}
                assert module in public, f"{page.name}:{block.line}: {module}"
                assert set(names.split(", ")) <= set(public[module]), f"{page.name}:{block.line}: {names}"
