"""The LAN file that old programs read: what `discover --legacy` writes, and what the real old one does with it."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.mesh.conftest import Lan
from tests.mesh.old_package import LAN_FILE, PASSWORD, MeshHost


def document_of(host: MeshHost) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((host.directory / LAN_FILE).read_text())
    return document


def test_old_program_skips_discovery_with_legacy_peers(warm_lan: Lan) -> None:
    here, there = warm_lan
    beta = there.old_peer("beta")
    (here.directory / LAN_FILE).unlink()
    found = here.command("discover", "--legacy", "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["hosts"] == [there.address]
    document = document_of(here)
    assert document["addresses"] == [here.address, there.address]
    assert document["time_out_in_minutes"] == 30
    written = (here.directory / LAN_FILE).read_bytes()
    alpha = here.old_peer("alpha")
    alpha.tell("transmit", "young")
    assert beta.fact("heard")["heard"] == "young"
    assert (here.directory / LAN_FILE).read_bytes() == written, "it has discovered for itself"
    assert PASSWORD.encode() not in written


def test_host_without_broker_is_not_in_its_list(warm_lan: Lan, bare_host: MeshHost) -> None:
    for host in warm_lan:
        host.old_peer("any")
    found = bare_host.command("discover", "--legacy", *(host.address for host in warm_lan))
    assert found.returncode == 0, found.stderr
    assert sorted(document_of(bare_host)["addresses"]) == sorted(host.address for host in warm_lan)


def test_adopted_file_loses_an_old_programs_passwords(warm_lan: Lan) -> None:
    here, there = warm_lan
    file = here.directory / LAN_FILE
    assert PASSWORD in file.read_text()
    assert PASSWORD not in here.command("read", "--file", LAN_FILE).stdout
    known = here.command("discover", "--legacy", "--json")
    assert json.loads(known.stdout)["hosts"] == [here.address, there.address], "what it has found is reused"
    assert here.command("update", "--file", LAN_FILE, 'note="adopted"').returncode == 0
    assert PASSWORD not in file.read_text()
    here.old_peer("alpha")


def test_our_chart_lists_its_own_host_too(cold_lan: Lan) -> None:
    here, there = cold_lan
    code = (
        "from miros_cache_net import LanChart\n"
        f"with LanChart(candidates=lambda: ['{there.address}']) as lan:\n"
        "    print(lan.peers().hosts, flush=True)\n"
        "    while not lan.cache_file_chart.store.read().face.discovered_at_ms: pass\n"
    )
    program = here.start(sys.executable, "-c", code, MIROS_CACHE_EXCHANGE="amq.topic", MESH_ENCRYPTION_KEY="")
    assert program.shows("192.168.") == str([here.address, there.address])
    assert program.end() == 0
    assert document_of(here)["addresses"] == [here.address, there.address]
