"""Settings files that merely lie in the working directory: which count, and what they may not do."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.errors import SettingsError
from miros_cache_net.settings import Settings
from miros_cache_net.settings.environment import environment
from miros_cache_net.settings.key_file import generate_key, key_id
from miros_cache_net.settings.networks import interface_addresses
from miros_cache_net.wire.key_edit import new_key
from tests.cli_command import SOURCES

STRANGER = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can give a file away")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("MIROS_CACHE_", "RABBIT_", "MESH_", "CONNECTION_ATTEMPTS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def lay(name: str, text: str, mode: int = 0o644) -> Path:
    path = Path(name)
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert "\n" not in str(caught.value)
    return str(caught.value)


FILES = [(".env", "MIROS_CACHE_SCOPE=found\n"), ("miros-cache-net.toml", 'scope = "found"\n')]


# --- whose file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), FILES)
def test_file_writable_by_everybody_is_refused(name: str, text: str) -> None:
    lay(name, text, 0o666)
    assert "is writable by everybody" in refusal()
    assert "chmod go-w" in refusal()


@as_root
@pytest.mark.parametrize(("name", "text"), FILES)
def test_strangers_file_is_refused_unless_named(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(lay(name, text), STRANGER, STRANGER)
    assert f"belongs to user {STRANGER}" in refusal()
    monkeypatch.setenv("MIROS_CACHE_ENV_FILE" if name == ".env" else "MIROS_CACHE_CONFIG", name)
    assert Settings().scope == "found"


@as_root
@pytest.mark.parametrize(("name", "text"), FILES)
def test_strangers_link_to_own_file_is_refused(name: str, text: str) -> None:
    lay("own", text)
    Path(name).symlink_to("own")
    assert Settings().scope == "found"
    os.chown(name, STRANGER, STRANGER, follow_symlinks=False)
    assert f"belongs to user {STRANGER}" in refusal()


def test_link_target_must_be_closed_to_others_too() -> None:
    lay("open", "MIROS_CACHE_SCOPE=found\n", 0o666)
    Path(".env").symlink_to("open")
    assert "is writable by everybody" in refusal()


@pytest.mark.parametrize("text", ["PORT=80\nDATABASE_URL=x\n", "", "\x00\udcff"])
def test_untrusted_dotenv_without_our_names_is_ignored(text: str) -> None:
    Path(".env").write_bytes(text.encode("utf-8", "surrogateescape"))
    Path(".env").chmod(0o666)
    assert Settings().scope == "fleet"


@as_root
def test_umask_002_with_own_group_still_works() -> None:
    lay(".env", "MIROS_CACHE_SCOPE=found\n", 0o664)
    assert Settings().scope == "found"
    os.chown(".env", 0, STRANGER)
    assert "is writable by its group" in refusal()


@as_root
def test_roots_file_counts_for_every_user() -> None:
    lay(".env", "MIROS_CACHE_SCOPE=found\n")
    assert as_stranger("print(Settings().scope)") == "found"


@pytest.mark.parametrize("name", [".env", "miros-cache-net.toml"])
def test_irregular_file_counts_as_absent_and_hangs_nobody(name: str) -> None:
    os.mkfifo(name)
    assert Settings().scope == "fleet"
    os.unlink(name)
    os.mkdir(name)
    assert Settings().scope == "fleet"


@pytest.mark.parametrize("variable", ["MIROS_CACHE_ENV_FILE", "MIROS_CACHE_CONFIG"])
def test_named_pipe_or_absent_file_is_one_line(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "named")
    assert refusal().endswith(f"{variable} names it")
    os.mkfifo("named")
    assert "not a regular file" in refusal()


def test_a_named_null_device_stands_for_no_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    lay(".env", "MIROS_CACHE_SCOPE=found\n")
    monkeypatch.setenv("MIROS_CACHE_ENV_FILE", os.devnull)
    assert Settings().scope == "fleet"


# --- where secrets go -----------------------------------------------------------------------------------

URL = "amqp://broker.example"
REDIRECTIONS = [
    (".env", f"MIROS_CACHE_AMQP_URL={URL}\n"),
    ("miros-cache-net.toml", f'amqp_urls = "{URL}"\n'),
    (".env", f"MIROS_CACHE_AMQP_URL=amqps://localhost,{URL.replace('//', '//eve:own@')}\n"),
    (".env", "MIROS_CACHE_TRUSTED_NETWORKS=0.0.0.0/0\n"),
    (".env", f"MIROS_CACHE_AMQP_URL={URL}\nMIROS_CACHE_TRUSTED_NETWORKS=0.0.0.0/0\n"),
]


@pytest.mark.parametrize(("name", "text"), REDIRECTIONS)
def test_foreign_password_does_not_follow_a_found_file(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(name, text)
    monkeypatch.setenv("RABBIT_PASSWORD", "s3cret")
    message = refusal()
    assert "the password comes from elsewhere" in message
    assert "s3cret" not in message


def test_found_file_reads_no_other_password_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    lay(".env", f"MIROS_CACHE_AMQP_URL={URL}\nRABBIT_PASSWORD_FILE={tmp_path / 'secret'}\n")
    assert "the password comes from elsewhere" in refusal()


def test_toml_named_by_found_dotenv_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    lay("evil", f'amqp_urls = "{URL}"\n')
    lay(".env", "MIROS_CACHE_CONFIG=evil\n")
    monkeypatch.setenv("RABBIT_PASSWORD", "s3cret")
    assert "the password comes from elsewhere" in refusal()


MISGUIDANCE = [
    ("MIROS_CACHE_TLS_VERIFY", "tls_verify", "false"),
    ("MIROS_CACHE_TLS_CA_FILE", "tls_ca_file", "ca.pem"),
    ("MIROS_CACHE_DISCOVER", "discover", "auto,evil.example:5671"),
    ("MIROS_CACHE_HOSTS_FILE", "hosts_file", "hosts.json"),
    ("MIROS_CACHE_TRUSTED_NETWORKS", "trusted_networks", "0.0.0.0/0"),
    ("MIROS_CACHE_TRUSTED_NETWORKS", "trusted_networks", "auto"),
    ("", "trust_own_subnets", "true"),
]


@pytest.mark.parametrize(("variable", "key", "value"), MISGUIDANCE)
@pytest.mark.parametrize("name", [".env", "miros-cache-net.toml"])
@pytest.mark.parametrize("password", ["in the URL", "in a file's URL", "beside it"])
def test_found_file_does_not_govern_a_foreign_password(
    variable: str, key: str, value: str, name: str, password: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == ".env" and not variable:
        return  # that one is a key of TOML files alone
    lay("ca.pem", "")
    lay(name, f"{variable}={value}\n" if name == ".env" else f"{key} = '{value}'\n")
    if password == "in the URL":
        monkeypatch.setenv("MIROS_CACHE_AMQP_URL", "amqps://me:s3cret@broker.example")
    elif password == "beside it":
        monkeypatch.setenv("MIROS_CACHE_AMQP_URL", "amqps://me@broker.example")
        monkeypatch.setenv("RABBIT_PASSWORD", "s3cret")
    else:
        (here.parent / "url").write_text("amqps://me:s3cret@broker.example")
        monkeypatch.setenv("MIROS_CACHE_AMQP_URL_FILE", str(here.parent / "url"))
    naming = "MIROS_CACHE_ENV_FILE" if name == ".env" else "MIROS_CACHE_CONFIG"
    message = refusal()
    assert f"{variable if name == '.env' else key} in {name}" in message and f"{naming}={name}" in message
    assert "s3cret" not in message
    monkeypatch.setenv(naming, name)
    assert Settings().amqp_urls[0].password.reveal() == "s3cret"


@pytest.mark.parametrize(
    "text",
    [
        "MIROS_CACHE_TLS_VERIFY=true",
        "MIROS_CACHE_DISCOVER=auto",
        "MIROS_CACHE_TRUSTED_NETWORKS=127.0.0.0/8",
        "MIROS_CACHE_SITE=lab",
    ],
)
def test_found_file_may_give_harmless_settings(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(".env", text)
    monkeypatch.setenv("MIROS_CACHE_AMQP_URL", "amqps://me:s3cret@broker.example")
    assert Settings().amqp_urls[0].password.reveal() == "s3cret"


@pytest.mark.parametrize("elsewhere", ["", "amqps://broker.example", "amqps://guest:guest@broker.example"])
def test_found_file_with_its_own_password_says_everything(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIROS_CACHE_AMQP_URL", elsewhere)
    lay(".env", "RABBIT_PASSWORD=x\nMIROS_CACHE_DISCOVER=alpha.lab\nMIROS_CACHE_TLS_VERIFY=false\n")
    assert Settings().discover == ("alpha.lab",)


def test_environment_and_arguments_overrule_the_found_file(monkeypatch: pytest.MonkeyPatch) -> None:
    lay(".env", "MIROS_CACHE_DISCOVER=evil.example\nMIROS_CACHE_TLS_VERIFY=false\n")
    monkeypatch.setenv("RABBIT_PASSWORD", "s3cret")
    monkeypatch.setenv("MIROS_CACHE_DISCOVER", "alpha.lab")
    assert Settings(tls_verify=False).discover == ("alpha.lab",)


def test_subnets_trusted_by_found_file_get_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    own = next((str(each.address) for each in interface_addresses() if each.address.version == 4), "127.0.0.1")
    broker = "broker.example" if own == "127.0.0.1" else own
    lay("miros-cache-net.toml", f'amqp_urls = "amqp://{broker}"\ntrust_own_subnets = true\n')
    monkeypatch.setenv("MIROS_CACHE_KEYS", generate_key().decode())
    with pytest.raises(SettingsError, match="the key comes from elsewhere"):
        Settings().load_keys()


def test_foreign_key_serves_no_broker_of_found_file(monkeypatch: pytest.MonkeyPatch) -> None:
    lay(".env", f"MIROS_CACHE_AMQP_URL={URL}\n")
    monkeypatch.setenv("MIROS_CACHE_KEYS", generate_key().decode())
    with pytest.raises(SettingsError, match="the key comes from elsewhere"):
        Settings().load_keys()
    monkeypatch.setenv("MIROS_CACHE_ENV_FILE", ".env")
    assert Settings().load_keys()


@pytest.mark.parametrize(
    "url", ["amqp://localhost", "amqp://127.0.0.1:5673", "amqp://[::1]", "amqp://eve:own@broker.example"]
)
def test_loopback_and_urls_with_passwords_still_work(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(".env", f"MIROS_CACHE_AMQP_URL={url}\n")
    monkeypatch.setenv("RABBIT_PASSWORD", "s3cret")
    assert Settings().amqp_urls


def test_network_that_the_user_trusts_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    lay(".env", "MIROS_CACHE_AMQP_URL=amqp://10.1.2.3\n")
    monkeypatch.setenv("RABBIT_PASSWORD", "s3cret")
    monkeypatch.setenv("MIROS_CACHE_TRUSTED_NETWORKS", "10.1.0.0/16")
    assert Settings().amqp_urls[0].password.reveal() == "s3cret"


def test_complete_dotenv_still_works() -> None:
    lay(".env", f"MIROS_CACHE_AMQP_URL={URL}\nRABBIT_PASSWORD=x\nMIROS_CACHE_KEYS={generate_key().decode()}\n")
    assert Settings().amqp_urls[0].password.reveal() == "x"
    assert Settings().load_keys()


@pytest.mark.parametrize("place", ["user", "named", "environment", "argument"])
def test_url_named_by_the_user_gets_environments_password(
    place: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBIT_PASSWORD", "s3cret")
    toml = f'amqp_urls = "{URL}"\n'
    if place == "user":
        config = here.parent / "home/.config/miros-cache-net/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(toml)
    elif place == "named":
        lay("miros-cache-net.toml", toml)
        monkeypatch.setenv("MIROS_CACHE_CONFIG", "miros-cache-net.toml")
    elif place == "environment":
        monkeypatch.setenv("MIROS_CACHE_AMQP_URL", URL)
    settings = Settings(amqp_urls=URL) if place == "argument" else Settings()
    assert settings.amqp_urls[0].password.reveal() == "s3cret"


# --- what others write ----------------------------------------------------------------------------------


@pytest.mark.parametrize("quote", ["'", '"', ""])
def test_a_dotenv_is_taken_literally(quote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("x", "other")
    lay(".env", f"RABBIT_PASSWORD={quote}s3${{x}}cr#t{quote}\n")
    assert Settings().rabbit_password.get_secret_value() == "s3${x}cr#t"


def test_byte_order_marks_are_taken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfs3cret\r\n")
    Path(".env").write_bytes(b"\xef\xbb\xbfMIROS_CACHE_SCOPE=dotenv\r\n")
    Path("miros-cache-net.toml").write_bytes(b'\xef\xbb\xbfsite = "lab"\r\n')
    monkeypatch.setenv("RABBIT_PASSWORD_FILE", str(tmp_path / "secret"))
    settings = Settings()
    assert (settings.scope, settings.site) == ("dotenv", "lab")
    assert settings.rabbit_password.get_secret_value() == "s3cret"


def test_port_of_a_service_link_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RABBIT_PORT", "tcp://10.96.3.4:5672")
    with caplog.at_level(logging.WARNING):
        assert Settings().rabbit_port == 5672
    assert "RABBIT_PORT=tcp://10.96.3.4:5672" in caplog.text


# --- key files of others --------------------------------------------------------------------------------


def key_file(path: Path, mode: int, uid: int = 0, gid: int = STRANGER) -> bytes:
    key = generate_key()
    path.write_bytes(key)
    path.chmod(mode)
    os.chown(path, uid, gid)
    return key


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other users can look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_roots_key_file_may_be_readable_by_group(mode: int, open_place: Path) -> None:
    key = key_file(open_place / "keys", mode)
    assert as_stranger(f"print(Settings(keys_file='{open_place}/keys').load_keys()[0].decode())") == key.decode()


@as_root
@pytest.mark.parametrize(
    ("mode", "uid", "mend"),
    [
        (0o444, 0, "copy it to a file of your own"),
        (0o460, 0, "copy it to a file of your own"),
        (0o400, 0, "copy it to a file of your own"),
        (0o640, STRANGER + 1, "copy it to a file of your own"),
        (0o640, STRANGER, "run `chmod 600 "),
    ],
)
def test_refused_key_file_names_a_possible_remedy(mode: int, uid: int, mend: str, open_place: Path) -> None:
    key_file(open_place / "keys", mode, uid)
    program = f"try: Settings(keys_file='{open_place}/keys').load_keys()\nexcept Exception as error: print(error)"
    assert mend in as_stranger(program)


def test_a_key_file_without_a_key_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# nothing yet\n")
    path.chmod(0o600)
    made = new_key(path)
    assert [key_id(key) for key in Settings(keys_file=path).load_keys()] == [made]
    assert path.read_text().startswith("# nothing yet\n")


def test_garbage_in_key_file_names_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"\xff\x00garbage\n")
    path.chmod(0o600)
    for action in (lambda: Settings(keys_file=path).load_keys(), lambda: new_key(path)):
        with pytest.raises(SettingsError, match=r"line 1: not a Fernet key .*copy the key file of another host"):
            action()


# --- no home --------------------------------------------------------------------------------------------


def as_stranger(program: str, **variables: str) -> str:
    """What `program` prints, run by a user without a passwd entry and a home."""
    # the interpreter may lie where that user cannot look: everything is loaded before
    load = "import os, encodings.utf_8_sig, grp, pwd, dotenv\nfrom miros_cache_net.settings.model import Settings"
    become = f"os.setgroups([]); os.setgid({STRANGER}); os.setuid({STRANGER})"
    done = subprocess.run(
        [sys.executable, "-c", f"{load}\n{become}\n{program}"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@as_root
def test_keys_of_environment_suffice_without_a_home() -> None:
    program = "os.chdir('/'); s = Settings(); print(s.keys_file, len(s.load_keys()))"
    assert as_stranger(program, MIROS_CACHE_KEYS=generate_key().decode()) == "None 1"


def test_missing_key_without_a_home_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no home directory for a key file: set MIROS_CACHE_KEYS"):
        Settings(keys_file=None).load_keys()
    assert "MIROS_CACHE_KEYS" not in environment()
