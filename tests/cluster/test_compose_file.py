"""What docker-compose.yml and the Dockerfile say, checked without an engine (so that it is checked everywhere)."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from miros_cache_net.cli.root import SECTIONS
from miros_cache_net.settings import Settings
from tests.cluster.compose_project import FILE, NODES, ROOT, compose_tools, run

SECRETS = "/etc/miros-cache-net"


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    """The services as they are written, anchors resolved, variables not."""
    document: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(FILE.read_text())
    return document["services"]


@pytest.fixture
def make_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docker/make_secrets.py as a module, its two volumes below `tmp_path`."""
    spec = importlib.util.spec_from_file_location("make_secrets", ROOT / "docker" / "make_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("NODES", "BROKER"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(module, name, tmp_path / name)
    return module


def test_every_compose_on_this_machine_accepts_the_file() -> None:
    for tool in compose_tools():
        run([*tool, "-f", str(FILE), "config", "--quiet"])


def test_images_and_base_images_can_be_chosen_by_variables(services: dict[str, dict[str, Any]]) -> None:
    assert services["rabbitmq"]["image"] == "${RABBITMQ_IMAGE:-rabbitmq:4}"
    assert services["keys"]["build"]["args"] == {"PYTHON_IMAGE": "${PYTHON_IMAGE:-python:3.12-slim}"}
    assert {services[name]["image"] for name in ("keys", *NODES)} == {"${NODE_IMAGE:-miros-cache-net}"}
    assert [name for name in services if "build" in services[name]] == ["keys"], "one image, built once"


def test_what_starts_waits_for_what_it_needs(services: dict[str, dict[str, Any]]) -> None:
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    healthy = "service_healthy"
    assert waits == {
        "keys": {},
        "rabbitmq": {"keys": "service_completed_successfully"},
        "alpha": {"rabbitmq": healthy},
        "beta": {"alpha": healthy},
        "gamma": {"alpha": healthy},
    }
    assert all("test" in services[name]["healthcheck"] for name in ("rabbitmq", *NODES))


def test_hosts_share_nothing_but_the_secrets_which_only_their_maker_can_write(
    services: dict[str, dict[str, Any]],
) -> None:
    for node in NODES:
        assert services[node]["volumes"] == [f"keys:{SECRETS}:ro", f"{node}:/var/lib/miros-cache-net"]
    assert not any(volume.startswith("keys:") for volume in services["rabbitmq"]["volumes"])
    assert services["keys"]["network_mode"] == "none"


def test_no_port_is_published_and_no_container_has_more_rights_than_it_needs(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, service in services.items():
        assert not {"ports", "privileged", "cap_add", "user", "pid", "network"} & set(service), name
    for name in ("keys", *NODES):
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["read_only"] is True
        assert services[name]["init"] is True


def test_environments_name_settings_that_exist_and_hold_no_secret(services: dict[str, dict[str, Any]]) -> None:
    known = {name for setting in Settings.describe() for name in setting.env_names}
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            assert variable in known, f"{name}: no setting reads {variable}"
            if re.search("PASS|KEY|SECRET|TOKEN", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable} holds a secret, not the file of one"
                assert value.startswith(f"{SECRETS}/")
            assert not re.search(r"//[^/@]*:[^/@]*@", value), f"{name}: {variable} holds a password"


def test_commands_are_lists_of_words_and_start_what_is_there(services: dict[str, dict[str, Any]]) -> None:
    commands = {command.name for section in SECTIONS.values() for command in section}
    for name in ("keys", *NODES):
        program, *words = services[name]["command"]
        if program == "miros-cache-net":
            assert words[0] in commands
        elif words[0] == "-m":
            assert importlib.util.find_spec(words[1]) is not None, words[1]
        else:
            assert (ROOT / "docker" / Path(words[0]).name).is_file()


def test_the_image_runs_an_exec_form_command_as_an_ordinary_user_and_knows_no_secret() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    instructions = [line.split(None, 1) for line in lines if re.match("[A-Z]+ ", line)]
    last = dict(instructions)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["CMD"]) == ["miros-cache-net", "node"]
    assert "ENTRYPOINT" not in last
    assert not re.search("(?i)password|guest|MIROS_CACHE_KEYS=", "\n".join(lines[1:]))
    bases = [text.split()[0] for word, text in instructions if word == "FROM"]
    assert bases == ["${PYTHON_IMAGE}"] * 2


def test_what_is_sent_to_the_engine_is_a_list_of_what_is_wanted() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*"
    wanted = {pattern[1:].rstrip("/") for pattern in patterns if pattern[0] == "!"}
    copied = {
        word.rstrip("/")
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert {word.split("/")[0] for word in copied} == wanted
    assert all((ROOT / word).exists() for word in copied)


def test_key_and_password_are_made_once_and_closed_to_others(
    make_secrets: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_secrets.main()
    files = {path: path.read_bytes() for path in (tmp_path / "NODES").iterdir()}
    assert {path.name for path in files} == {"keys", "rabbit-password"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    make_secrets.main()
    assert {path: path.read_bytes() for path in (tmp_path / "NODES").iterdir()} == files
    printed = capsys.readouterr().out
    assert "fleet" in printed
    for secret in files.values():
        assert secret.strip().decode() not in printed


def test_a_node_can_use_what_was_made(
    make_secrets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secrets.main()
    monkeypatch.setenv("MIROS_CACHE_KEYS_FILE", str(tmp_path / "NODES" / "keys"))
    monkeypatch.setenv("RABBIT_USER", "fleet")
    monkeypatch.setenv("RABBIT_PASSWORD_FILE", str(tmp_path / "NODES" / "rabbit-password"))
    monkeypatch.setenv("MIROS_CACHE_AMQP_URL", "amqp://rabbitmq:5672")
    settings = Settings.load()
    assert len(settings.load_keys()) == 1
    password = (tmp_path / "NODES" / "rabbit-password").read_text()
    assert settings.amqp_urls[0].password.reveal() == password
    assert len(password) >= 40


def test_the_broker_finds_its_definitions_where_its_volume_is(
    make_secrets: ModuleType, tmp_path: Path, services: dict[str, dict[str, Any]]
) -> None:
    make_secrets.main()
    config = (tmp_path / "BROKER" / "50-fleet.conf").read_text()
    (directory,) = re.findall(r"^load_definitions = (.*)/definitions\.json$", config, re.MULTILINE)
    assert f"broker-config:{directory}:ro" in services["rabbitmq"]["volumes"]
    assert f"broker-config:{directory}" in services["keys"]["volumes"]


def test_the_broker_gets_a_salted_hash_that_fits_the_password_and_one_user(
    make_secrets: ModuleType, tmp_path: Path
) -> None:
    make_secrets.main()
    password = (tmp_path / "NODES" / "rabbit-password").read_bytes()
    for path in (tmp_path / "BROKER").iterdir():
        assert password not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    definitions = json.loads((tmp_path / "BROKER" / "definitions.json").read_text())
    (user,) = definitions["users"]
    hashed = base64.b64decode(user["password_hash"])
    assert hashed[4:] == hashlib.sha256(hashed[:4] + password).digest()
    assert [rights["user"] for rights in definitions["permissions"]] == [user["name"]] == ["fleet"]
    assert user["tags"] == []
