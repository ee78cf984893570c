"""`key rotate --fleet`: the walk through the fleet, with hosts that are lists of key ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cli import main
from miros_cache_net.cli.key_rotation import Rotation
from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.wire.keyring import list_keys, new_key


class Hosts:
    """Hosts that have this host's key file as soon as it is brought to them."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.path = directory / "keys"
        self.old = new_key(self.path)
        self.keys: dict[str, list[str] | None] = {name: [self.old] for name in names}
        self.said: list[str] = []
        self.history: list[list[str]] = []
        self.now_s = 0.0
        self.asked: Callable[[], object] = lambda: None

    @property
    def ring(self) -> list[str]:
        return [each.key_id for each in list_keys(self.path)]

    def ask(self) -> list[dict[str, Any]]:
        self.now_s += 2.0
        self.asked()
        return [{"node": name, "keys": keys} for name, keys in self.keys.items() if keys is not None]

    def bring(self) -> bool:
        self.history.append(self.ring)
        self.keys = {name: None if keys is None else self.ring for name, keys in self.keys.items()}
        return True

    def rotate(self, key_id: str | None = None, bring: Callable[[], bool] | None = None, least: int = 1) -> Rotation:
        rotation = Rotation(
            self.path,
            self.ask,
            bring or self.bring,
            least=least,
            timeout_s=60.0,
            now_s=lambda: self.now_s,
            tell=self.said.append,
        )
        rotation.run(key_id)
        return rotation


@pytest.fixture(name="three")
def three_hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path, "alpha", "beta", "gamma")


def test_the_new_key_is_added_promoted_and_kept(three: Hosts) -> None:
    rotation = three.rotate(least=3)
    new = rotation.key_id
    assert rotation.is_done
    assert three.history == [[three.old, new], [new, three.old], [new]]
    assert three.keys == {name: [new] for name in ("alpha", "beta", "gamma")}
    assert rotation.report() == {
        "key_id": new,
        "removed": [three.old],
        "hosts": ["alpha", "beta", "gamma"],
        "done": True,
        "stopped": "",
    }


def test_too_few_hosts_stop_it_before_anything_is_changed(three: Hosts) -> None:
    rotation = three.rotate(least=4)
    assert rotation.stopped == "only these of 4 hosts answer: alpha, beta, gamma; nothing was changed"
    assert three.ring == [three.old]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_host_that_goes_stops_it_until_it_is_back(three: Hosts, step: int) -> None:
    def bring() -> bool:
        three.bring()
        if len(three.history) == step:
            three.keys["beta"] = None
        return True

    stopped = three.rotate(bring=bring)
    assert not stopped.is_done
    assert "no longer answering: beta" in stopped.stopped
    assert f"key rotate --fleet {stopped.key_id}" in stopped.stopped
    assert len(three.history) == step
    three.keys["beta"] = three.ring
    assert three.rotate(stopped.key_id).is_done
    assert list(three.keys.values()) == [[stopped.key_id]] * 3


def test_one_lost_answer_stops_nothing(three: Hosts) -> None:
    lost = iter([False, True, False])

    def asked() -> None:
        three.keys["gamma"] = None if next(lost, False) else three.ring

    three.asked = asked
    assert three.rotate().is_done


def test_a_host_that_stays_behind_stops_it_in_time(three: Hosts) -> None:
    def bring() -> bool:
        three.bring()
        three.keys["gamma"] = [three.old]
        return True

    rotation = three.rotate(bring=bring)
    assert rotation.stopped.startswith("after 60 s some hosts do not yet have the new key: gamma; fix that")
    assert three.ring == [three.old, rotation.key_id]
    assert three.said.count("waiting for gamma to have the new key") == 1


def test_a_host_that_joins_midway_must_follow(three: Hosts) -> None:
    three.asked = lambda: three.keys.setdefault("delta", [three.old]) if three.history else None
    rotation = three.rotate()
    assert "the new key: delta" in rotation.stopped
    assert three.ring[0] == three.old


def test_a_command_that_fails_stops_it(three: Hosts) -> None:
    rotation = three.rotate(bring=lambda: False)
    assert rotation.stopped.startswith("the command that brings the key file has failed; fix that")


def test_an_unknown_key_to_go_on_with_is_named(three: Hosts) -> None:
    with pytest.raises(SettingsError, match=f"holds no key 'nosuchid'; it holds {three.old}"):
        three.rotate("nosuchid")


def test_the_command_wants_fleet_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "rotate"]) == 2
    assert "add --fleet" in capsys.readouterr().err


def test_keys_given_directly_cannot_be_rotated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIROS_CACHE_KEYS", generate_key().decode())
    assert main(["key", "rotate", "--fleet"]) == 2
    assert "cannot be rotated" in capsys.readouterr().err
