from __future__ import annotations

import copy
import io
import ipaddress
import logging
import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import is_node_name
from miros_cache_net.errors import SettingsError
from miros_cache_net.settings import Settings
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.settings.known_names import KNOWN_NAMES
from miros_cache_net.settings.parsing import host_node_name
from tests.threads import logged_here

OLD_NAMES = ("RABBIT_", "CONNECTION_ATTEMPTS", "MESH_ENCRYPTION_KEY", "MIROS_CACHE_")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and home, and none of our variables."""
    for name in list(os.environ):
        if name.startswith(OLD_NAMES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path / "home"


def refusal(**overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def url_of(broker: BrokerAddress) -> tuple[str, str, str, int]:
    return broker.user, broker.password.reveal(), broker.host, broker.port


# --- defaults and sources -------------------------------------------------------------------------


def test_broker_is_local_with_guest_by_default(home: Path) -> None:
    settings = Settings()
    assert [url_of(broker) for broker in settings.amqp_urls] == [("guest", "guest", "localhost", 5672)]
    assert settings.file == Path.cwd() / ".miros_rabbitmq_cache.json"
    assert settings.document == ".miros_rabbitmq_cache.json"
    assert settings.keys_file == home / ".config/miros-cache-net/keys"
    assert settings.scope == "fleet"
    assert settings.exchange == "miros.cache.exchange"
    assert not settings.trust_own_subnets
    assert [str(network) for network in settings.trusted_networks] == ["127.0.0.0/8", "::1/128"]


def test_document_is_named_after_its_file_by_default() -> None:
    assert Settings(file="/var/lib/lan.json").document == "lan.json"
    assert Settings(file="/var/lib/lan.json", document="peers").document == "peers"


def test_each_source_overrules_the_ones_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().scope == "fleet"
    Path("miros-cache-net.toml").write_text('scope = "toml"\n')
    assert Settings().scope == "toml"
    Path(".env").write_text("MIROS_CACHE_SCOPE=dotenv\n")
    assert Settings().scope == "dotenv"
    monkeypatch.setenv("MIROS_CACHE_SCOPE", "environment")
    assert Settings().scope == "environment"
    assert Settings.load(scope="argument").scope == "argument"
    assert Settings.load(scope=None).scope == "environment"


def test_toml_file_is_named_local_or_the_users(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = home / ".config/miros-cache-net/config.toml"
    users.parent.mkdir(parents=True)
    users.write_text('scope = "user"')
    assert Settings().scope == "user"
    Path("miros-cache-net.toml").write_text('scope = "local"')
    assert Settings().scope == "local"
    (tmp_path / "named.toml").write_text('scope = "named"')
    monkeypatch.setenv("MIROS_CACHE_CONFIG", str(tmp_path / "named.toml"))
    assert Settings().scope == "named"


def test_the_users_directory_follows_xdg_config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert Settings().keys_file == tmp_path / "xdg/miros-cache-net/keys"


def test_the_older_librarys_names_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate_key().decode()
    Path(".env").write_text(
        f"MESH_ENCRYPTION_KEY={key}\nRABBIT_USER=bob\nRABBIT_PASSWORD=dobbs\nRABBIT_PORT=5673\n"
        "RABBIT_HEARTBEAT_INTERVAL=3600\nCONNECTION_ATTEMPTS=3\nSNOOP_TRACE_ENCRYPTION_KEY=x\n"
    )
    settings = Settings()
    assert [url_of(broker) for broker in settings.amqp_urls] == [("bob", "dobbs", "localhost", 5673)]
    assert settings.load_keys() == (key.encode(),)
    assert (settings.heartbeat_s, settings.connection_attempts) == (3600, 3)


@pytest.mark.parametrize("where", ["old name stronger by source", "same source"])
def test_a_new_name_wins_over_the_old_one(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = generate_key().decode(), generate_key().decode()
    if where == "same source":
        monkeypatch.setenv("MIROS_CACHE_KEYS", new)
        monkeypatch.setenv("MIROS_CACHE_HEARTBEAT_S", "7")
    else:
        Path(".env").write_text(f"MIROS_CACHE_KEYS={new}\nMIROS_CACHE_HEARTBEAT_S=7\n")
    monkeypatch.setenv("MESH_ENCRYPTION_KEY", old)
    monkeypatch.setenv("RABBIT_HEARTBEAT_INTERVAL", "3600")
    settings = Settings()
    assert settings.load_keys() == (new.encode(),)
    assert settings.heartbeat_s == 7


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIROS_CACHE_SCOPE", "")
    monkeypatch.setenv("RABBIT_PORT", "")
    assert Settings().scope == "fleet"
    assert Settings().rabbit_port == 5672


# --- brokers --------------------------------------------------------------------------------------


def test_several_brokers_are_divided_by_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RABBIT_USER", "bob")
    monkeypatch.setenv("RABBIT_PASSWORD", "dobbs")
    monkeypatch.setenv("MIROS_CACHE_AMQP_URL", "amqp://one, amqp://eve:own@two:7000/v,amqps://carol@three")
    assert [url_of(broker) for broker in Settings().amqp_urls] == [
        ("bob", "dobbs", "one", 5672),
        ("eve", "own", "two", 7000),
        ("carol", "dobbs", "three", 5671),
    ]


def test_secrets_can_be_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("amqp://one\n")
    (tmp_path / "password").write_text("dobbs\n")
    monkeypatch.setenv("MIROS_CACHE_AMQP_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("RABBIT_PASSWORD_FILE", str(tmp_path / "password"))
    assert url_of(Settings().amqp_urls[0]) == ("guest", "dobbs", "one", 5672)
    monkeypatch.setenv("RABBIT_PASSWORD", "direct")
    assert url_of(Settings().amqp_urls[0])[1] == "direct"


def test_missing_secret_file_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBIT_PASSWORD_FILE", "/nowhere/password")
    assert refusal().startswith("RABBIT_PASSWORD_FILE: the file '/nowhere/password'")


# --- keys -----------------------------------------------------------------------------------------


def key_file(path: Path, *keys: bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"# the fleet's ring\n\n" + b"".join(key + b"  # a key\n" for key in keys))
    path.chmod(mode)
    return path


@pytest.mark.parametrize("divider", [",", "\n", ", \n", " "])
def test_keys_are_divided_and_keep_their_order(divider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [generate_key().decode() for _ in range(3)]
    monkeypatch.setenv("MIROS_CACHE_KEYS", divider.join(keys))
    assert [key.decode() for key in Settings().load_keys()] == keys


def test_without_keys_the_key_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = generate_key(), generate_key()
    monkeypatch.setenv("MIROS_CACHE_KEYS_FILE", str(key_file(tmp_path / "ring", first, second)))
    assert Settings().load_keys() == (first, second)


def test_default_key_file_is_read_without_another(home: Path) -> None:
    key = generate_key()
    key_file(home / ".config/miros-cache-net/keys", key)
    assert Settings().load_keys() == (key,)


def test_new_names_file_beats_old_names_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate_key()
    monkeypatch.setenv("MIROS_CACHE_KEYS_FILE", str(key_file(tmp_path / "ring", key)))
    monkeypatch.setenv("MESH_ENCRYPTION_KEY", generate_key().decode())
    assert Settings().load_keys() == (key,)


def test_the_old_names_file_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate_key()
    monkeypatch.setenv("MESH_ENCRYPTION_KEY_FILE", str(key_file(tmp_path / "ring", key)))
    assert Settings().load_keys() == (key,)


@pytest.mark.parametrize("stronger", ["environment over toml", "argument over environment"])
def test_stronger_sources_key_file_beats_weaker_keys(
    stronger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, weaker = generate_key(), generate_key().decode()
    path = key_file(tmp_path / "ring", key)
    if stronger == "environment over toml":
        Path("miros-cache-net.toml").write_text(f'keys = ["{weaker}"]')
        monkeypatch.setenv("MIROS_CACHE_KEYS_FILE", str(path))
        assert Settings().load_keys() == (key,)
    else:
        monkeypatch.setenv("MIROS_CACHE_KEYS", weaker)
        assert Settings(keys_file=path).load_keys() == (key,)


def test_no_key_says_which_command_makes_one(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"no key configured: .*keys does not exist; run `miros-cache-net key new`"):
        Settings().load_keys()
    key_file(home / ".config/miros-cache-net/keys")
    with pytest.raises(SettingsError, match=r"no key configured: .* holds none; run `miros-cache-net key new`"):
        Settings().load_keys()


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o601, 0o620, 0o440 | 0o4])
def test_a_key_file_open_to_others_is_refused(mode: int, tmp_path: Path) -> None:
    path = key_file(tmp_path / "ring", generate_key(), mode=mode)
    with pytest.raises(SettingsError, match=f"open to other users; run `chmod 600 {path}`"):
        Settings(keys_file=path).load_keys()


def test_malformed_key_is_named_by_its_place(tmp_path: Path) -> None:
    good, bad = generate_key(), generate_key()[:-3] + b"!!="
    path = key_file(tmp_path / "ring", good, bad)
    with pytest.raises(SettingsError, match=r"ring, line 4: not a Fernet key") as in_file:
        Settings(keys_file=path).load_keys()
    with pytest.raises(SettingsError, match=r"MIROS_CACHE_KEYS, key 2: not a Fernet key") as given:
        Settings(keys=[good, bad]).load_keys()
    for caught in (in_file, given):
        assert bad.decode()[:20] not in str(caught.value)


def test_ring_of_too_many_keys_is_refused() -> None:
    with pytest.raises(SettingsError, match="holds 9 keys, at most 8"):
        Settings(keys=[generate_key() for _ in range(limits.RING_KEYS + 1)]).load_keys()


@pytest.mark.parametrize("odd", ["directory", "pipe", "huge", "loop"])
def test_irregular_key_file_is_refused_at_once(odd: str, tmp_path: Path) -> None:
    path = tmp_path / "ring"
    if odd == "directory":
        path.mkdir(mode=0o700)
    elif odd == "pipe":
        os.mkfifo(path, 0o600)
    elif odd == "loop":
        path.symlink_to(path)
    else:
        path.write_bytes(b"#" * (limits.KEY_FILE_BYTES + 1))
        path.chmod(0o600)
    with pytest.raises(SettingsError, match="key file"):
        Settings(keys_file=path).load_keys()


# --- networks and names ---------------------------------------------------------------------------


def test_auto_is_a_flag_and_loopback_stays_trusted() -> None:
    settings = Settings(trusted_networks="auto, 10.1.0.0/16")
    assert settings.trust_own_subnets
    assert settings.trusted_networks[0] == ipaddress.ip_network("10.1.0.0/16")
    assert ipaddress.ip_network("127.0.0.0/8") in settings.trusted_networks


@pytest.mark.parametrize(("text", "prefix"), [("20", 20), ("/20", 20), (" /16 ", 16)])
def test_sweep_prefix_may_have_a_slash(text: str, prefix: int) -> None:
    assert Settings(sweep_prefix=text).sweep_prefix == prefix


@pytest.mark.parametrize("text", ["15", "33", "//20", "255.255.0.0", ""])
def test_invalid_sweep_prefix_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="MIROS_CACHE_SWEEP_PREFIX"):
        Settings(sweep_prefix=text)


def test_networks_without_auto_are_exactly_the_ones_named() -> None:
    settings = Settings(trusted_networks=["10.1.0.0/16", "fe80::/10", "192.168.1.7"])
    assert [str(network) for network in settings.trusted_networks] == ["10.1.0.0/16", "fe80::/10", "192.168.1.7/32"]
    assert not settings.trust_own_subnets


@pytest.mark.parametrize("host", ["alpha", "Alpha.Example.COM", "höst_1", "x" * 64, "y" * 60 + ".lan", ""])
def test_any_host_name_gives_a_node_name(host: str) -> None:
    assert is_node_name(host_node_name(host))


def test_long_host_names_stay_distinct() -> None:
    assert host_node_name("pod-" * 15 + "a") != host_node_name("pod-" * 15 + "b")


def test_node_name_must_fit_into_stamps() -> None:
    for name in ("a", "node-1", "x" * 48):
        assert is_node_name(Settings(node_name=name).node_name)
    for name in ("A", "a b", "x" * 49, "ä", "a\n"):
        assert not is_node_name(name)
        refusal(node_name=name)


# --- errors ---------------------------------------------------------------------------------------

MALFORMED = [
    ("RABBIT_PORT", "none", "must be a valid integer"),
    ("RABBIT_PORT", "70000", "must be less than or equal to 65535"),
    ("MIROS_CACHE_AMQP_URL", "http://host", "does not begin with amqp://"),
    ("MIROS_CACHE_SCOPE", "a\tb", "must be printable"),
    ("MIROS_CACHE_SCOPE", "x" * 256, "longer than 255 bytes"),
    ("MIROS_CACHE_NODE_NAME", "Not OK", "lower-case letters"),
    ("MIROS_CACHE_TRUSTED_NETWORKS", "10.1.2.3/16", "write '10.1.0.0/16'"),
    ("MIROS_CACHE_TRUSTED_NETWORKS", "lan", "'lan'"),
    ("MIROS_CACHE_SCOUT_TIMEOUT_S", "0", "greater than 0"),
    ("MIROS_CACHE_ANSWER_TIMEOUT_S", "nan", "must be"),
    ("MIROS_CACHE_DIGEST_INTERVAL_S", "soon", "valid number"),
    ("RABBIT_HEARTBEAT_INTERVAL", "-1", "greater than or equal to 0"),
    ("CONNECTION_ATTEMPTS", "0", "greater than or equal to 1"),
    ("MIROS_CACHE_TLS_CA_FILE", "/nowhere/ca.pem", "does not exist"),
    ("MIROS_CACHE_TLS_VERIFY", "perhaps", "valid boolean"),
    ("MIROS_CACHE_LOG_LEVEL", "loud", "'DEBUG'"),
]


@pytest.mark.parametrize(
    ("name", "text", "says"), MALFORMED, ids=[f"{name}={text[:20]}" for name, text, _ in MALFORMED]
)
def test_malformed_variable_is_one_line_naming_it(
    name: str, text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    message = refusal()
    assert message.startswith(f"{name}: ")
    assert says in message
    assert "pydantic" not in message.lower()


def test_malformed_value_is_named_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("miros-cache-net.toml").write_text("rabbit_port = 'x'")
    assert refusal().startswith("RABBIT_PORT (rabbit_port in miros-cache-net.toml): ")
    assert refusal(rabbit_port="y").startswith("RABBIT_PORT (argument rabbit_port): ")


@pytest.mark.parametrize(
    ("key", "meant"),
    [("scop", "scope"), ("MIROS_CACHE_SITE", "site"), ("amqp_url", "amqp_urls"), ("nodename", "node_name")],
)
def test_unknown_toml_key_names_the_nearest_known_one(key: str, meant: str) -> None:
    Path("miros-cache-net.toml").write_text(f'{key} = "x"')
    assert refusal() == f"miros-cache-net.toml: unknown key {key!r}; did you mean {meant!r}?"


def test_misspelt_variable_is_reported_once_with_nearest_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path(".env").write_text("MIROS_CACHE_NODENAME=x\n")
    wrong_names = ("MIROS_CACHE_SCOP", "MIROS_CACHE_KEYS_FLIE", "MIROS_CACHE_RABBIT_PASSWORD_FILE")
    for name in (*wrong_names, "MIROS_OTHER", "SCOP"):
        monkeypatch.setenv(name, "x")
    for name, value in (("MIROS_CACHE_SCOPE", "lab"), ("MIROS_CACHE_DEBUG", "1")):
        monkeypatch.setenv(name, value)
    assert Settings().scope == "lab"
    said = sorted(record.getMessage() for record in logged_here(caplog))
    assert said == [
        f"{wrong} is not a setting and is ignored; did you mean {right}?"
        for wrong, right in (
            ("MIROS_CACHE_KEYS_FLIE", "MIROS_CACHE_KEYS_FILE"),
            ("MIROS_CACHE_NODENAME", "MIROS_CACHE_NODE_NAME"),
            ("MIROS_CACHE_RABBIT_PASSWORD_FILE", "RABBIT_PASSWORD_FILE"),
            ("MIROS_CACHE_SCOP", "MIROS_CACHE_SCOPE"),
        )
    ]
    Settings()
    assert len(logged_here(caplog)) == len(said)


def test_the_list_of_known_names_is_that_of_the_settings() -> None:
    elsewhere = {"MIROS_CACHE_CONFIG", "MIROS_CACHE_ENV_FILE", "MIROS_CACHE_DEBUG"}
    assert {name for each in Settings.describe() for name in each.env_names} | elsewhere == KNOWN_NAMES


def test_an_unknown_argument_names_the_nearest_known_one() -> None:
    assert refusal(scop="x") == "unknown setting 'scop'; did you mean 'scope'?"


def test_broken_toml_file_is_named_with_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("miros-cache-net.toml").write_text('scope = "a"\nsite = \n')
    assert "miros-cache-net.toml is not TOML" in refusal()
    assert "line 2" in refusal()
    Path("miros-cache-net.toml").write_bytes(b"scope = '\xff'")
    assert "miros-cache-net.toml in the working directory cannot be read: it is not UTF-8" in refusal()


def test_missing_settings_file_that_is_named_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIROS_CACHE_CONFIG", "/nowhere/config.toml")
    assert refusal() == "/nowhere/config.toml cannot be read: No such file or directory; MIROS_CACHE_CONFIG names it"


ODD_VALUES = [object(), {"a": 1}, b"\xff", ["\0"], -(10**300), float("nan"), "\udc80", [[]]]


@pytest.mark.parametrize("field", [row.field for row in Settings.describe()])
@pytest.mark.parametrize(
    "value", ODD_VALUES, ids=["object", "dict", "bytes", "NUL", "huge", "nan", "surrogate", "lists"]
)
def test_odd_values_end_in_one_line_at_most(field: str, value: object) -> None:
    try:
        repr(Settings(**{field: value}))
    except SettingsError as error:
        assert "\n" not in str(error)
        names = {row.field: row.env_names for row in Settings.describe()}[field]
        if field == "file":
            names += ("MIROS_CACHE_DOCUMENT: must be given",)
        assert str(error).startswith(names or "trust_own_subnets")
        assert error.__context__ is None


# --- secrets --------------------------------------------------------------------------------------

SECRET = "open-sesame-7"


def test_settings_text_never_shows_a_secret() -> None:
    key = generate_key().decode()
    settings = Settings(keys=key, rabbit_password=SECRET, amqp_urls=f"amqp://u:{SECRET}@one,amqp://two")
    log = io.StringIO()
    logger = logging.getLogger("test_settings")
    logger.addHandler(logging.StreamHandler(log))
    logger.error("%s %r %s", settings, settings, settings.model_dump())
    shown = [
        str(settings),
        repr(settings),
        str(settings.model_dump()),
        str(settings.model_dump(mode="json")),
        settings.model_dump_json(),
        str(vars(settings)),
        log.getvalue(),
        str(settings.model_copy(update={"scope": "x"})),
    ]
    for text in shown:
        assert SECRET not in text
        assert key not in text
    assert settings.model_dump()["amqp_urls"][0] == "amqp://u@one:5672"


@pytest.mark.parametrize(
    "overrides",
    [
        {"amqp_urls": f"amqp://u:{SECRET}@host:99999"},
        {"amqp_urls": f"amqp://u:{SECRET}@[host"},
        {"amqp_urls": f"u:{SECRET}@host"},
        {"rabbit_password": [SECRET]},
        {"keys": {SECRET: 1}},
        {"keys": [[SECRET]]},
        {"rabbit_password": SECRET, "rabbit_port": "x"},
    ],
)
def test_errors_and_tracebacks_never_show_a_secret(overrides: dict[str, Any]) -> None:
    try:
        Settings(**overrides)
    except SettingsError as error:
        text = "".join(traceback.format_exception(error))
        assert SECRET not in text.replace(repr(overrides), "")
        assert error.__context__ is None
    else:
        pytest.fail("accepted")


# --- the value ------------------------------------------------------------------------------------


def test_settings_cannot_be_changed_and_compare_by_value() -> None:
    settings = Settings(keys=generate_key(), scope="lab")
    with pytest.raises(ValueError, match="frozen"):
        settings.scope = "other"
    assert settings == copy.copy(settings) == pickle.loads(pickle.dumps(settings))
    assert hash(settings) == hash(copy.copy(settings))
    assert settings != Settings(scope="lab")


def test_every_setting_is_described_with_its_default() -> None:
    rows = Settings.describe()
    assert [row.field for row in rows] == list(Settings.model_fields)
    # the mesh's key is the fleet's too where that has no other
    names = [name for row in rows for name in row.env_names if not row.field.startswith("mesh_key")]
    assert len(names) == len(set(names))
    for row in rows:
        assert row.description.endswith(".")
        assert row.env_names or row.field == "trust_own_subnets"
    described = {row.field: row for row in rows}
    assert described["keys"].env_names == ("MIROS_CACHE_KEYS", "MESH_ENCRYPTION_KEY")
    assert described["rabbit_password"].env_names == ("RABBIT_PASSWORD", "RABBIT_PASSWORD_FILE")
    assert described["tls_verify"].default == "true"


def test_every_described_variable_takes_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    existing = tmp_path / "existing"
    existing.write_text("amqp://filed")
    values = {
        "amqp_urls": "amqp://other",
        "keys": generate_key().decode(),
        "trusted_networks": "10.0.0.0/8",
        "tls_verify": "no",
        "external_login": "yes",
        "mesh": "on",
        "mesh_sender": "192.168.1.75",
        "log_level": "debug",
        "log_format": "json",
    }
    for row in Settings.describe():
        for name in row.env_names:
            default = getattr(Settings(), row.field)
            path = str(existing)
            text = path if name.endswith("_FILE") else values.get(row.field, path if "file" in row.field else "31")
            with monkeypatch.context() as patch:
                patch.setenv(name, text)
                assert getattr(Settings(), row.field) != default, name


def test_described_defaults_are_the_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Settings()
    for row in Settings.describe():
        if row.env_names and row.default and row.field not in ("rabbit_password", "document", "node_name", "keys_file"):
            with monkeypatch.context() as patch:
                patch.setenv(row.env_names[0], row.default)
                assert getattr(Settings(), row.field) == getattr(plain, row.field), row
