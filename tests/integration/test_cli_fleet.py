"""`scout`, `doctor`, `node`, `status` and `read --fleet` as users run them, on a real RabbitMQ."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pika
import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.testing import RabbitServer, free_port, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import COMMAND, clean_environment, end_by, error_line, run, terminal
from tests.fake_servers import FakeServer, greeter, mute

DEFAULT = ".miros_rabbitmq_cache.json"
#: The same as a word of a routing key.
WORD = "%2Emiros_rabbitmq_cache%2Ejson"
SECRET = "s3cr3t-that-nobody-may-see"


def started(stack: ExitStack, directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`miros-cache-net` with files for its output, so that it never waits for a reader; killed in the end."""
    directory.mkdir(exist_ok=True)
    out, err = (stack.enter_context((directory / name).open("w")) for name in ("out", "err"))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        text=True,
        env=clean_environment(directory, **environment),
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


# --- node, status, read --fleet -------------------------------------------------------------------


def test_nodes_keep_two_directories_in_step(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    alpha, beta = tmp_path / "alpha", tmp_path / "beta"
    nodes = [started(processes, alpha, "node", **variables), started(processes, beta, "node", "--json", **variables)]
    for directory in (alpha, beta):
        wait_until(lambda here=directory: "in step" in read(here, "out") or '"connected"' in read(here, "out"))
    assert run(alpha, "write", stdin='{"hosts": ["10.0.0.2"]}', **variables).returncode == 0
    wait_until(lambda: read_cache(beta / DEFAULT).dict == {"hosts": ["10.0.0.2"]}, what="beta has it")

    gamma = tmp_path / "gamma"
    gamma.mkdir()
    asked = run(gamma, "read", "--fleet", **variables)
    assert (asked.returncode, json.loads(asked.stdout)) == (0, {"hosts": ["10.0.0.2"]})
    assert "the fleet: discovered" in error_line(asked)
    assert list(gamma.iterdir()) == []

    assert json.loads(run(alpha, "read", "--json", **variables).stdout)["connected"]
    assert not json.loads(run(gamma, "read", "--json", **variables).stdout)["connected"]

    status = run(alpha, "status", "--json", **variables)
    assert status.returncode == 0, status.stderr
    shown = json.loads(status.stdout)
    assert {node["version"] for node in shown["nodes"]} == {shown["file"]["version"]}
    assert len(shown["nodes"]) == 2
    table = run(alpha, "status", **variables).stdout
    assert "2 nodes, all have the same document" in table
    assert table.count("RabbitMQ") == 2

    for node, number in zip(nodes, (signal.SIGTERM, signal.SIGINT), strict=True):
        assert end_by(node, number) == 0
    assert "new: hosts; discovered just now" in read(alpha, "out")
    assert read(alpha, "out").splitlines()[-1].endswith("stopping")
    happenings = [json.loads(line)["what"] for line in read(beta, "out").splitlines()]
    assert happenings[0] == "started"
    assert {"role", "connected", "cache"} < set(happenings)
    assert happenings[-1] == "stopping"
    assert [read(directory, "err") for directory in (alpha, beta)] == ["", ""]


def test_fleet_key_rotation_stops_where_a_host_is_missing(
    variables: dict[str, str], processes: ExitStack, tmp_path: Path
) -> None:
    del variables["MIROS_CACHE_KEYS"]
    alpha, beta = tmp_path / "alpha", tmp_path / "beta"
    keys = Path(".config", "miros-cache-net", "keys")
    alpha.mkdir()
    assert run(alpha, "key", "new", **variables).returncode == 0
    (beta / keys).parent.mkdir(parents=True)
    bring = f"cp -p {alpha / keys} {beta / keys}"
    subprocess.run(bring, shell=True, check=True)
    nodes = [started(processes, directory, "node", **variables) for directory in (alpha, beta)]
    for directory in (alpha, beta):
        wait_until(lambda here=directory: "in step" in read(here, "out"))

    rotated = run(alpha, "key", "rotate", "--fleet", "--hosts", "2", "--bring", bring, "--json", **variables)
    assert rotated.returncode == 0, rotated.stderr
    new = json.loads(rotated.stdout)["key_id"]
    nodes_now = json.loads(run(beta, "status", "--json", **variables).stdout)["nodes"]
    assert [node["keys"] for node in nodes_now] == [[new], [new]]
    name = nodes_now[0]["node"]
    shown = run(alpha, "status", name, "nobody-12345678", **variables)
    assert (shown.returncode, name in shown.stdout, "1 node," in shown.stdout) == (1, True, True)
    assert "no answer from nobody-12345678" in shown.stderr

    assert end_by(nodes[1], signal.SIGTERM) == 0
    stopped = run(alpha, "key", "rotate", "--fleet", "--hosts", "2", "--bring", bring, **variables)
    assert stopped.returncode == 1
    assert "stopped: only these of 2 hosts answer: alpha" in stopped.stderr.replace(name.partition("-")[0], "alpha")


def test_commands_find_the_nodes_of_their_file(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    variables["MIROS_CACHE_DOCUMENT"] = "the name of another file"
    program = "import sys; from miros_cache_net import CacheNode; node = CacheNode(sys.argv[1]); sys.stdin.read()"
    for host in ("alpha", "beta"):
        (tmp_path / host).mkdir()
        for file in ("printers.json", "scanners.json"):
            command = (sys.executable, "-c", program, file) if host == "beta" else (*COMMAND, "node", "--file", file)
            process = subprocess.Popen(
                command,
                cwd=tmp_path / host,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=clean_environment(tmp_path / host, **variables),
            )
            processes.enter_context(process)
            processes.callback(process.kill)

    def seen(file: str) -> list[dict[str, Any]]:
        status = run(tmp_path, "status", "--json", "--file", file, **variables)
        return [node for node in json.loads(status.stdout or "{}").get("nodes", []) if node["connected"]]

    for file in ("printers.json", "scanners.json"):
        wait_until(lambda file=file: len(seen(file)) == 2, timeout_s=60, what=f"both nodes of {file}")
        assert (
            run(tmp_path / "alpha", "write", "--file", file, stdin=f'{{"of": "{file}"}}', **variables).returncode == 0
        )
    for file in ("printers.json", "scanners.json"):
        beta = tmp_path / "beta" / file
        wait_until(lambda file=file, beta=beta: read_cache(beta).dict == {"of": file}, what=f"beta has {file}")
        assert json.loads(run(tmp_path, "read", "--fleet", "--file", file, **variables).stdout) == {"of": file}
        assert read_cache(tmp_path / "alpha" / file).dict == {"of": file}
        doctor = json.loads(run(tmp_path, "doctor", "--json", "--file", file, **variables).stdout)
        assert "2 nodes in step with the fleet" in [finding["detail"] for finding in doctor]


@pytest.mark.parametrize(("by_key", "code"), [(True, 0), (False, 130)], ids=["q", "Ctrl-C"])
def test_top_follows_the_fleet_until_it_is_left(
    by_key: bool, code: int, variables: dict[str, str], processes: ExitStack, tmp_path: Path
) -> None:
    alpha, beta = tmp_path / "alpha", tmp_path / "beta"
    for directory in (alpha, beta):
        started(processes, directory, "node", **variables)
    for directory in (alpha, beta):
        wait_until(lambda here=directory: "in step" in read(here, "out"))
    with terminal(alpha, "top", **variables) as top:
        top.show("2 nodes, the same document")
        run(beta, "write", stdin='{"a": 1}', **variables)
        top.show("1 key")
        run(beta, "update", "b=2", **variables)
        top.show("new: b")
        top.type("\r")
        top.show("uptime_s")
        top.type("\x1b")
        if by_key:
            top.type("q")
        else:
            top.process.send_signal(signal.SIGINT)
        assert top.end() == code
    # the screen of before is back, and the cursor
    assert top.shown.rindex("\x1b[?1049l") > top.shown.rindex("uptime_s") and "\x1b[?25h" in top.shown
    assert "Traceback" not in top.shown


def test_top_in_a_pipe_prints_once_or_says_how(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    started(processes, tmp_path / "alpha", "node", **variables)
    wait_until(lambda: "in step" in read(tmp_path / "alpha", "out"))
    once = run(tmp_path, "top", "--once", **variables)
    assert (once.returncode, once.stderr) == (0, "")
    assert "1 node, the same document" in once.stdout and "in step" in once.stdout and "\x1b" not in once.stdout
    live = run(tmp_path, "top", **variables)
    assert live.returncode == 2 and "--once" in error_line(live)


def test_node_without_broker_serves_and_ends_cleanly(processes: ExitStack, tmp_path: Path) -> None:
    url = f"amqp://user:{SECRET}@127.0.0.1:{free_port()}"
    environment = {"MIROS_CACHE_AMQP_URL": url, "MIROS_CACHE_KEYS": generate_key().decode()}
    node = started(processes, tmp_path / "alone", "node", **environment)
    directory = tmp_path / "alone"
    wait_until(lambda: "does not answer" in read(directory, "err"), what="the log names the broker")
    with Cache(directory / DEFAULT) as cache:
        cache.write({"a": 1})
    wait_until(lambda: "discovered just now" in read(directory, "out"), what="the node has seen the write")
    assert end_by(node, signal.SIGTERM) == 0
    assert SECRET not in read(directory, "out") + read(directory, "err")


def test_node_tells_when_broker_is_lost_and_back(
    rabbit_server: RabbitServer, variables: dict[str, str], processes: ExitStack, tmp_path: Path
) -> None:
    directory = tmp_path / "alpha"
    node = started(processes, directory, "node", **variables)
    wait_until(lambda: "in step with the fleet" in read(directory, "out"), what="linked")
    rabbit_server.stop()
    wait_until(lambda: "out of touch with the fleet" in read(directory, "out"), what="said to be out of touch")
    rabbit_server.start()
    wait_until(lambda: read(directory, "out").count("in step with the fleet") == 2, 30, what="linked again")
    with pika.BlockingConnection(pika.URLParameters(rabbit_server.url)) as connection:
        channel, key = connection.channel(), f"cache.{variables['MIROS_CACHE_SCOPE']}.{WORD}.CACHE"
        for _ in range(100):
            channel.basic_publish("miros.cache.exchange", key, b"garbage")

    def counters() -> dict[str, int]:
        return dict(json.loads(run(directory, "status", "--json", **variables).stdout)["nodes"][0]["counters"])

    wait_until(lambda: counters().get("refused_not_authentic") == 100, what="the garbage to be counted")
    failed = counters()["links_failed"]
    assert counters()["links_made"] == 2
    assert f"counted: links failed {failed}, refused not authentic 100" in run(directory, "status", **variables).stdout
    assert end_by(node, signal.SIGTERM) == 0
    *lost, refused = read(directory, "err").splitlines()
    # a broker that goes down may be found half down before it is gone
    assert 1 <= len(lost) == failed <= 2
    assert all(f"RabbitMQ at amqp://guest@{rabbit_server.address}:{rabbit_server.port}" in line for line in lost)
    assert "not encrypted in our format: another program sends to this exchange" in refused


def test_missing_fleet_is_a_no_with_the_remedy(variables: dict[str, str], tmp_path: Path) -> None:
    for arguments in (("status",), ("read", "--fleet")):
        finished = run(tmp_path, *arguments, **variables)
        assert finished.returncode == 1
        assert "no host answered: does `miros-cache-net node`" in error_line(finished)
        assert f"scope {variables['MIROS_CACHE_SCOPE']!r}" in error_line(finished)
        assert "document '.miros_rabbitmq_cache.json'" in error_line(finished)


def test_status_hints_at_a_key_unknown_to_fleet(
    variables: dict[str, str], processes: ExitStack, tmp_path: Path
) -> None:
    directory = tmp_path / "alpha"
    started(processes, directory, "node", **variables)
    wait_until(lambda: "in step with the fleet" in read(directory, "out"), what="linked")
    other = {**variables, "MIROS_CACHE_KEYS": generate_key().decode()}
    for arguments in (("status",), ("read", "--fleet")):
        finished = run(tmp_path, *arguments, **other)
        assert finished.returncode == 1
        assert "do they have this host's key?" in finished.stderr.splitlines()[-1]


def test_host_with_another_key_shows_it_on_itself(
    variables: dict[str, str], processes: ExitStack, tmp_path: Path
) -> None:
    alpha, beta = tmp_path / "alpha", tmp_path / "beta"
    started(processes, alpha, "node", **variables)
    wait_until(lambda: "in step with the fleet" in read(alpha, "out"), what="linked")
    assert "1 node in step with the fleet" in run(tmp_path, "doctor", **variables).stdout
    other = {**variables, "MIROS_CACHE_KEYS": generate_key().decode(), "MIROS_CACHE_ANSWER_TIMEOUT_S": "0.1"}
    started(processes, beta, "node", **other)

    def shown() -> bool:
        run(alpha, "update", "heard=true", **variables)
        status = run(beta, "status", **other)
        return status.returncode == 1 and "is encrypted with a key that this host does not have" in status.stdout

    wait_until(shown, timeout_s=30, what="the trouble of the host with the other key")
    doctor = run(beta, "doctor", "--json", **other)
    failed = [each for each in json.loads(doctor.stdout) if each["outcome"] == "FAILED"]
    assert [each["check"] for each in failed] == ["understood"]
    assert "with a key that this host does not have" in failed[0]["detail"] and "copy the key file" in failed[0]["fix"]


@pytest.mark.parametrize("arguments", [("node",), ("status",), ("read", "--fleet")], ids=" ".join)
def test_fleet_commands_without_key_tell_the_remedy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    finished = run(tmp_path, *arguments)
    assert finished.returncode == 2
    assert "no key configured" in error_line(finished)
    assert "`miros-cache-net key new`" in error_line(finished)


def test_node_with_missing_directory_does_not_start(variables: dict[str, str], tmp_path: Path) -> None:
    finished = run(tmp_path, "node", "--file", "absent/cache.json", **variables)
    assert finished.returncode == 3
    assert "its directory does not exist; create it" in error_line(finished)


def test_node_serves_metrics_or_says_why_not(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    started(processes, tmp_path / "alpha", "node", "--metrics", address, **variables)
    wait_until(lambda: "in step" in read(tmp_path / "alpha", "out"))
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as page:
        assert b"miros_cache_connected 1.0" in page.read()
    second = tmp_path / "beta"
    second.mkdir()
    finished = run(second, "node", "--metrics", address, **variables)
    assert finished.returncode == 2
    line = error_line(finished)
    assert f"metrics cannot be served at {address}: the port is in use; choose another address with --metrics" in line


# --- a broker that says no ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refusals(rabbit_server: RabbitServer) -> dict[str, dict[str, str]]:
    """What to set for each kind of no that a real RabbitMQ says."""
    rabbit_server.start()
    rabbit_server.ctl("add_user", "visitor", SECRET)
    with pika.BlockingConnection(pika.URLParameters(rabbit_server.url)) as connection:
        connection.channel().exchange_declare("other.type", "fanout")
    at = f"{rabbit_server.address}:{rabbit_server.port}"
    return {
        "no broker": {"MIROS_CACHE_AMQP_URL": f"amqp://guest:{SECRET}@127.0.0.1:{free_port()}"},
        "wrong password": {"MIROS_CACHE_AMQP_URL": f"amqp://guest:{SECRET}@{at}"},
        "closed vhost": {"MIROS_CACHE_AMQP_URL": f"amqp://visitor:{SECRET}@{at}"},
        "absent vhost": {"MIROS_CACHE_AMQP_URL": f"amqp://guest:guest@{at}/absent"},
        "other exchange": {
            "MIROS_CACHE_AMQP_URL": f"amqp://guest:guest@{at}",
            "MIROS_CACHE_EXCHANGE": "other.type",
        },
    }


NOES = [
    ("no broker", "broker", "Connection refused): start it, or correct MIROS_CACHE_AMQP_URL"),
    ("wrong password", "login", "refused the user name or password: correct them in MIROS_CACHE_AMQP_URL"),
    ("closed vhost", "vhost", "rabbitmqctl set_permissions -p / visitor"),
    ("absent vhost", "vhost", "rabbitmqctl add_vhost absent"),
    ("other exchange", "exchange", "another type or durability"),
]


@pytest.mark.parametrize(("case", "step", "said"), NOES, ids=[case for case, _, _ in NOES])
def test_refusing_broker_is_one_line_with_the_remedy(
    case: str, step: str, said: str, refusals: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    environment = {**refusals[case], "MIROS_CACHE_KEYS": generate_key().decode()}
    asked = run(tmp_path, "status", **environment)
    assert asked.returncode == 3
    assert said in error_line(asked)
    doctor = run(tmp_path, "doctor", "--json", **environment)
    assert doctor.returncode == 1
    findings = [found for found in json.loads(doctor.stdout) if found["outcome"] == "FAILED"]
    assert [found["check"] for found in findings] == [step]
    assert said in f"{findings[0]['detail']}: {findings[0]['fix']}" and findings[0]["fix"] not in findings[0]["detail"]
    assert SECRET not in asked.stderr + doctor.stdout + doctor.stderr


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_is_content_where_a_node_would_run(variables: dict[str, str], tmp_path: Path) -> None:
    finished = run(tmp_path, "doctor", **variables)
    assert finished.returncode == 0, finished.stdout
    assert finished.stdout.endswith("\nall is well\n")
    checks = [line.split()[:2] for line in finished.stdout.splitlines()[1:-2]]
    names = (
        "settings",
        "key",
        "directory",
        "file",
        "disk",
        "bridge",
        "broker",
        "login",
        "vhost",
        "exchange",
        "fleet",
        "messages",
        "answers",
        "clock",
    )
    assert checks == [[name, "ok"] for name in names]


def test_doctor_tells_warnings_from_failures(variables: dict[str, str], tmp_path: Path) -> None:
    assert run(tmp_path, "write", stdin='{"a": 1}', **variables).returncode == 0
    misspelt = {**variables, "MIROS_CACHE_DIGEST_INTERVALS": "3"}
    finished, strict = run(tmp_path, "doctor", **misspelt), run(tmp_path, "doctor", "--strict", **misspelt)
    assert (finished.returncode, strict.returncode) == (0, 1)
    assert finished.stdout.endswith("\n2 warnings\n") and "all is well" not in finished.stdout
    lines = [line.strip().split(maxsplit=1) for line in finished.stdout.splitlines()]
    assert ["fix:", "did you mean MIROS_CACHE_DIGEST_INTERVAL_S?"] in lines
    assert ["variable", "warning  MIROS_CACHE_DIGEST_INTERVALS is not a setting and is ignored"] in lines
    assert ["expiry", "warning  the document never expires"] in lines


def test_doctor_fails_while_the_broker_has_an_alarm(
    rabbit_server: RabbitServer, variables: dict[str, str], processes: ExitStack, tmp_path: Path
) -> None:
    directory = tmp_path / "alpha"
    started(processes, directory, "node", **variables)
    wait_until(lambda: "in step with the fleet" in read(directory, "out"), what="linked")
    rabbit_server.ctl("set_disk_free_limit", "1000000GB")
    try:
        wait_until(lambda: "disk space alarm" in rabbit_server.ctl("status").lower(), 30, what="the alarm")
        finished = run(tmp_path, "doctor", **variables)
    finally:
        rabbit_server.ctl("set_disk_free_limit", "1MB")
    assert finished.returncode == 1
    assert "accepts no messages: low on disk" in finished.stdout and "1 check failed" in finished.stdout
    assert "fix:" in finished.stdout and "rabbitmq-diagnostics alarms" in finished.stdout


def test_report_holds_everything_but_secrets(variables: dict[str, str], processes: ExitStack, tmp_path: Path) -> None:
    directory = tmp_path / "alpha"
    started(processes, directory, "node", **variables)
    wait_until(lambda: "in step with the fleet" in read(directory, "out"), what="linked")
    secrets = {**variables, "RABBIT_PASSWORD": SECRET}
    finished = run(directory, "doctor", "--report", "report.tar.gz", **secrets)
    assert finished.returncode == 0, finished.stdout
    assert "wrote " in finished.stderr
    with tarfile.open(directory / "report.tar.gz") as archive:
        parts = {member.name.rpartition("/")[2]: archive.extractfile(member) for member in archive.getmembers()}
        texts = {name: part.read().decode() for name, part in parts.items() if part is not None}
    assert set(texts) == {"about.json", "doctor.json", "nodes.json", "health.json", "settings.json"}
    assert json.loads(texts["nodes.json"])[0]["state"] == "in step"
    assert json.loads(texts["about.json"])["libraries"]["pika"]
    whole = "".join(texts.values())
    assert SECRET not in whole and variables["MIROS_CACHE_KEYS"] not in whole
    assert (directory / "report.tar.gz").stat().st_mode & 0o777 == 0o600
    again = run(directory, "doctor", "--report", "report.tar.gz", **secrets)
    assert again.returncode == 2 and "name another file after --report" in again.stderr


def test_doctor_tells_of_a_broker_that_hangs(
    rabbit_server: RabbitServer, variables: dict[str, str], tmp_path: Path
) -> None:
    rabbit_server.pause()
    try:
        finished = run(tmp_path, "doctor", **variables)
    finally:
        rabbit_server.resume()
    assert finished.returncode == 1
    assert "accepts connections but sends nothing: it hangs" in finished.stdout
    assert " start it, or" not in finished.stdout


def test_doctor_on_an_empty_machine_names_first_steps(tmp_path: Path) -> None:
    finished = run(tmp_path, "doctor", MIROS_CACHE_AMQP_URL=f"amqp://127.0.0.1:{free_port()}")
    assert finished.returncode == 1
    assert "run `miros-cache-net key new`" in finished.stdout
    assert "start it, or correct MIROS_CACHE_AMQP_URL" in finished.stdout
    assert finished.stdout.endswith("\n2 checks failed\n")


def test_doctor_names_malformed_setting_and_skips_its_checks(tmp_path: Path) -> None:
    finished = run(tmp_path, "doctor", "--json", RABBIT_PORT="many")
    assert finished.returncode == 1
    found = {each["check"]: (each["outcome"], each["detail"]) for each in json.loads(finished.stdout)}
    assert found["settings"][0] == "FAILED"
    assert found["settings"][1].startswith("RABBIT_PORT:")
    assert {found[check][0] for check in ("key", "file", "broker")} == {"skipped"}


# --- scout ----------------------------------------------------------------------------------------


def test_scout_says_yes_or_no_for_each_host(rabbit_server: RabbitServer, tmp_path: Path) -> None:
    rabbit_server.start()
    usable, closed = f"127.0.0.1:{rabbit_server.port}", f"127.0.0.1:{free_port()}"
    environment = {"MIROS_CACHE_EXCHANGE": "amq.topic", "MIROS_CACHE_SCOUT_TIMEOUT_S": "2"}
    with FakeServer(greeter("Other")) as other:
        odd = f"localhost:{other.port}"
        finished = run(tmp_path, "scout", usable, closed, odd, **environment)
        as_json = run(tmp_path, "scout", "--json", usable, closed, odd, **environment)
    assert (finished.returncode, as_json.returncode) == (1, 1)
    rows = [line.split()[:3] for line in finished.stdout.splitlines()[1:]]
    assert rows == [[usable, "yes", "ok"], [closed, "no", "refused"], [odd, "no", "not_rabbitmq"]]
    shown = json.loads(as_json.stdout)
    assert [(each["host"], each["result"], each["reason"]) for each in shown] == [
        (usable, True, "ok"),
        (closed, False, "refused"),
        (odd, False, "not_rabbitmq"),
    ]
    assert finished.stderr == as_json.stderr == ""


def test_scout_says_done_if_every_answer_is_yes(rabbit_server: RabbitServer, tmp_path: Path) -> None:
    rabbit_server.start()
    usable = f"127.0.0.1:{rabbit_server.port}"
    assert run(tmp_path, "scout", usable, MIROS_CACHE_EXCHANGE="amq.topic").returncode == 0
    missing = run(tmp_path, "scout", usable, MIROS_CACHE_EXCHANGE="no.such.exchange")
    assert missing.returncode == 1
    assert "no_exchange" in missing.stdout


@pytest.mark.parametrize("host", [f"amqp://user:{SECRET}@127.0.0.1", f"user:{SECRET}@127.0.0.1", "a b", ":5672"])
def test_malformed_host_is_refused_without_repeating_its_password(host: str, tmp_path: Path) -> None:
    finished = run(tmp_path, "scout", host)
    assert finished.returncode == 2
    assert "host:port" in error_line(finished)
    assert SECRET not in finished.stderr


def test_terminal_scout_counts_answers_until_ctrl_c(tmp_path: Path) -> None:
    environment = {"MIROS_CACHE_SCOUT_TIMEOUT_S": "60"}
    with (
        FakeServer(mute) as silent,
        terminal(tmp_path, "scout", f"127.0.0.1:{silent.port}", f"127.0.0.1:{free_port()}", **environment) as screen,
    ):
        screen.show("1/2")
        assert end_by(screen.process, signal.SIGINT) == 130
        screen.end()
        assert "Traceback" not in screen.shown


def read(directory: Path, name: str) -> str:
    path = directory / name
    return path.read_text() if path.exists() else ""
