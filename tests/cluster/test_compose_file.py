"""What docker-compose.yml and the Dockerfile say, checked without an engine (so that it is checked everywhere)."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
import shlex
import stat
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from cryptography import x509

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
    monkeypatch.syspath_prepend(str(ROOT / "docker"))
    spec = importlib.util.spec_from_file_location("make_secrets", ROOT / "docker" / "make_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("NODES", "BROKER"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(module, name, tmp_path / name)
    return module


OVERRIDES = sorted(ROOT.glob("docker-compose.*.yml"))


@pytest.mark.parametrize("override", [None, *OVERRIDES], ids=lambda path: path.name if path else "none")
def test_every_compose_on_this_machine_accepts_the_files(override: Path | None) -> None:
    for tool in compose_tools():
        files = ["-f", str(FILE), *(["-f", str(override)] if override else [])]
        run([*tool, *files, "config", "--quiet"], PROMETHEUS_IMAGE="prometheus")


def test_the_page_names_every_override() -> None:
    page = (ROOT / "docs" / "how-to" / "docker-compose.md").read_text()
    assert len(OVERRIDES) >= 2
    assert all(override.name in page for override in OVERRIDES)


def test_nothing_grows_without_bound(services: dict[str, dict[str, Any]]) -> None:
    cluster = yaml.safe_load((ROOT / "docker-compose.rabbitmq-cluster.yml").read_text())["services"]
    for name, service in {**services, **{name: cluster[name] for name in ("rabbitmq2", "rabbitmq3")}}.items():
        assert {"mem_limit", "pids_limit"} <= set(service), name
        assert {"max-size", "max-file"} == set(service["logging"]["options"]), name


def test_images_can_be_chosen_by_variables(services: dict[str, dict[str, Any]]) -> None:
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
        "beta": {"rabbitmq": healthy},
        "gamma": {"rabbitmq": healthy},
    }
    assert all("test" in services[name]["healthcheck"] for name in ("rabbitmq", *NODES))


def test_hosts_share_only_secrets_that_they_cannot_write(
    services: dict[str, dict[str, Any]],
) -> None:
    for node in NODES:
        assert services[node]["volumes"] == [f"keys:{SECRETS}:ro", f"{node}:/var/lib/miros-cache-net"]
    assert not any(volume.startswith("keys:") for volume in services["rabbitmq"]["volumes"])
    assert services["keys"]["network_mode"] == "none"


def test_containers_have_no_ports_and_no_needless_rights(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, service in services.items():
        assert not {"ports", "privileged", "cap_add", "user", "pid", "network"} & set(service), name
    for name in ("keys", *NODES):
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["read_only"] is True
        assert services[name]["init"] is True


def test_environments_name_known_settings_and_hold_no_secret(services: dict[str, dict[str, Any]]) -> None:
    known = {name for setting in Settings.describe() for name in setting.env_names}
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            assert variable in known, f"{name}: no setting reads {variable}"
            if re.search("PASS|KEY|SECRET|TOKEN", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable} holds a secret, not the file of one"
                assert value.startswith(f"{SECRETS}/")
            assert not re.search(r"//[^/@]*:[^/@]*@", value), f"{name}: {variable} holds a password"


def test_nodes_run_same_command_that_keeps_document_young(
    services: dict[str, dict[str, Any]],
) -> None:
    assert {tuple(services[name]["command"]) for name in NODES} == {("node", f"--discover=rabbitmq,{','.join(NODES)}")}
    assert all(services[name]["environment"] == services["alpha"]["environment"] for name in NODES)


def test_commands_are_word_lists_that_start_what_exists(services: dict[str, dict[str, Any]]) -> None:
    commands = {command.name for section in SECTIONS.values() for command in section}
    assert all(services[name]["command"][0] in commands for name in NODES)
    (python, program) = services["keys"]["entrypoint"]
    assert python == "python3" and (ROOT / "docker" / Path(program).name).is_file()


def test_image_runs_as_ordinary_user_without_secrets() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    instructions = [line.split(None, 1) for line in lines if re.match("[A-Z]+ ", line)]
    last = dict(instructions)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["ENTRYPOINT"]) == ["miros-cache-net"]
    assert json.loads(last["CMD"]) == ["node"]
    assert not re.search("(?i)password|guest|MIROS_CACHE_KEYS=", "\n".join(lines[1:]))
    bases = [text.split()[0] for word, text in instructions if word == "FROM"]
    assert bases == ["${PYTHON_IMAGE}"] * 2


def test_the_images_labels_say_what_it_is() -> None:
    labels = dict(re.findall(r"org\.opencontainers\.image\.(\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    assert {"title", "description", "version", "licenses", "source"} == set(labels)
    assert labels["version"] == version("miros-cache-net")


def test_only_what_is_wanted_goes_to_the_engine() -> None:
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


def test_key_and_password_are_made_once_and_private(
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


def test_an_empty_secret_is_made_anew(make_secrets: ModuleType, tmp_path: Path) -> None:
    for name in ("keys", "rabbit-password"):
        (tmp_path / "NODES" / name).write_text("\n")
    make_secrets.main()
    assert len((tmp_path / "NODES" / "keys").read_text().strip()) == 44
    assert len((tmp_path / "NODES" / "rabbit-password").read_text()) >= 40


def test_a_key_that_is_none_is_named_and_kept(
    make_secrets: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "NODES" / "keys").write_text("secret stuff\n")
    with pytest.raises(SystemExit):
        make_secrets.main()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and str(tmp_path / "NODES" / "keys") in said and "secret stuff" not in said
    assert (tmp_path / "NODES" / "keys").read_text() == "secret stuff\n"


def test_the_brokers_user_has_the_documented_rights(make_secrets: ModuleType, tmp_path: Path) -> None:
    make_secrets.main()
    page = (ROOT / "docs" / "how-to" / "run-a-fleet.md").read_text()
    (line,) = re.findall(r"^rabbitmqctl set_permissions (.*)$", page, re.MULTILINE)
    _user, *documented = shlex.split(line)
    (rights,) = json.loads((tmp_path / "BROKER" / "definitions.json").read_text())["permissions"]
    assert [rights[name] for name in ("configure", "write", "read")] == documented


def test_a_certificate_is_made_once_and_checked(
    make_secrets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_TLS", "true")
    monkeypatch.setenv("FLEET_BROKERS", "rabbitmq,rabbitmq2,rabbitmq3")
    make_secrets.main()
    made = {path.name: path.read_bytes() for path in (tmp_path / "BROKER").iterdir()}
    authority = x509.load_pem_x509_certificate((tmp_path / "NODES" / "ca.pem").read_bytes())
    certificate = x509.load_pem_x509_certificate(made["broker.pem"])
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["rabbitmq", "rabbitmq2", "rabbitmq3", "localhost"]
    config = made["50-fleet.conf"].decode()
    assert "listeners.tcp = none" in config and "nodes.3 = rabbit@rabbitmq3" in config
    make_secrets.main()
    assert {
        name: (tmp_path / "BROKER" / name).read_bytes() for name in ("broker.pem", "broker.key", "erlang-cookie")
    } == {name: made[name] for name in ("broker.pem", "broker.key", "erlang-cookie")}
    monkeypatch.delenv("FLEET_TLS")
    monkeypatch.delenv("FLEET_BROKERS")
    make_secrets.main()
    assert "ssl" not in (tmp_path / "BROKER" / "50-fleet.conf").read_text(), "without the overrides it goes back"


def test_broker_finds_its_definitions_in_its_volume(
    make_secrets: ModuleType, tmp_path: Path, services: dict[str, dict[str, Any]]
) -> None:
    make_secrets.main()
    config = (tmp_path / "BROKER" / "50-fleet.conf").read_text()
    (directory,) = re.findall(r"^load_definitions = (.*)/definitions\.json$", config, re.MULTILINE)
    assert f"broker-config:{directory}:ro" in services["rabbitmq"]["volumes"]
    assert f"broker-config:{directory}" in services["keys"]["volumes"]


def test_broker_gets_one_user_and_a_salted_hash(make_secrets: ModuleType, tmp_path: Path) -> None:
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
