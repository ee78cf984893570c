"""What docs/how-to/upgrade-and-recovery.md says of hosts that are replaced, cloned, set back, or left without a key."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import Fleet, Host, wait_until

MakeFleet = Callable[..., Fleet]


def copied(host: Host, place: Path) -> Path:
    """The directory of a host that does not run, as a backup has it."""
    assert not host.running
    shutil.copytree(host.directory, place, ignore=shutil.ignore_patterns("*.sock", "*.socket", "log"))
    return place


def lose(host: Host) -> None:
    """Its disk is gone."""
    host.cache.close()
    for path in host.directory.iterdir():
        path.unlink()


def put_back(host: Host, backup: Path) -> None:
    lose(host)
    for path in backup.iterdir():
        shutil.copy2(path, host.directory)


def test_a_replaced_host_has_everything_again(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[0].write({"a": 1})
    hosts.agree(on=lambda contents: contents == {"a": 1})
    hosts[1].stop()
    lose(hosts[1])
    hosts[1].start()
    hosts[1].wait_joined()
    hosts.agree(on=lambda contents: contents == {"a": 1})


def test_an_old_backup_of_one_host_brings_nothing_back(fleet: MakeFleet, tmp_path: Path) -> None:
    hosts = fleet(2)
    hosts[0].write({"a": 1, "gone": True})
    hosts.agree()
    hosts[1].stop()
    backup = copied(hosts[1], tmp_path / "backup")
    hosts[0].delete("gone")
    hosts[0].update({"a": 2})
    put_back(hosts[1], backup)
    hosts[1].start()
    hosts[1].wait_joined()
    hosts.agree(on=lambda contents: contents == {"a": 2})


def test_a_backup_brings_back_what_everybody_lost(fleet: MakeFleet, tmp_path: Path) -> None:
    hosts = fleet(2)
    hosts[0].write({"a": 1})
    hosts.agree()
    for host in hosts:
        host.stop()
    backup = copied(hosts[0], tmp_path / "backup")
    for host in hosts:
        lose(host)
    put_back(hosts[0], backup)
    for host in hosts:
        host.start()
    hosts.agree(on=lambda contents: contents == {"a": 1})


def test_everything_lost_is_a_fleet_that_begins_anew(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[0].write({"a": 1})
    hosts.agree()
    for host in hosts:
        host.stop()
    for host in hosts:
        lose(host)
        host.start()
    hosts[1].write({"b": 2})
    hosts.agree(on=lambda contents: contents == {"b": 2})


def test_a_clone_without_the_file_is_separate(fleet: MakeFleet) -> None:
    hosts = fleet(1)
    hosts[0].write({"a": 1})
    clone = hosts.add("clone")
    clone.update({"c": 3})
    hosts.agree(on=lambda contents: contents == {"a": 1, "c": 3})
    assert clone.node.file_chart.node != hosts[0].node.file_chart.node


def test_a_clone_with_the_file_loses_nothing_either(fleet: MakeFleet, tmp_path: Path) -> None:
    hosts = fleet(2)
    hosts[0].write({"a": 1})
    hosts.agree()
    hosts[0].stop()
    backup = copied(hosts[0], tmp_path / "backup")
    clone = hosts.add("clone", start=False)
    put_back(clone, backup)
    for host in (hosts[0], clone):
        host.start()
        host.wait_joined()
    for number in range(5):
        hosts[0].update({f"original {number}": number})
        clone.update({f"clone {number}": number})
    everything = {"a": 1, **{f"{who} {n}": n for who in ("original", "clone") for n in range(5)}}
    hosts.agree(on=lambda contents: contents == everything)


def test_a_fleet_with_a_new_key_keeps_its_document(fleet: MakeFleet, tmp_path: Path) -> None:
    ring = tmp_path / "keys"
    ring.write_bytes(generate_key() + b"\n")
    ring.chmod(0o600)
    hosts = fleet(2, keys=(), keys_file=str(ring))
    hosts[0].write({"a": 1})
    hosts.agree()
    ring.write_bytes(generate_key() + b"\n")
    hosts[1].update({"b": 2})
    wait_until(lambda: len({host.status()["keys"][0] for host in hosts}) == 1, timeout_s=60)
    hosts[0].update({"c": 3})
    hosts.agree(on=lambda contents: contents == {"a": 1, "b": 2, "c": 3})
