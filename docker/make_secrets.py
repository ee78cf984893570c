"""Makes the fleet's key, its login at the broker and the broker's configuration; secrets that are there already stay.

Key and password lie in a volume that only the nodes mount, open to their user alone.  The broker gets a
salted hash of the password, so that its own volume holds nothing that lets anybody in.  Nothing secret is printed.

FLEET_BROKERS  the brokers' host names, separated by commas, where they are more than one: they form a RabbitMQ cluster
FLEET_TLS      anything: they listen with TLS only, with a certificate of a CA that is made for them
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
import time
from pathlib import Path

from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.key_file import generate_key, key_id, parse_keys

NODES = Path("/etc/miros-cache-net")
BROKER = Path("/etc/rabbitmq/conf.d")
USER = "fleet"
#: The least that a fleet needs: docs/how-to/run-a-fleet.md.
RIGHTS = {
    "configure": r"^(miros\.cache\.exchange|cache\..*|amq\.gen-.*)$",
    "write": r"^(miros\.cache\.exchange|cache\..*|amq\.gen-.*|amq\.default)$",
    "read": r"^(miros\.cache\.exchange|cache\..*|amq\.gen-.*)$",
}
CONFIG = f"""\
load_definitions = {BROKER}/definitions.json
log.console = true
log.console.level = warning
"""
TLS = f"""\
listeners.tcp = none
listeners.ssl.default = 5671
ssl_options.cacertfile = {BROKER}/ca.pem
ssl_options.certfile = {BROKER}/broker.pem
ssl_options.keyfile = {BROKER}/broker.key
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
"""
CLUSTER = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_partition_handling = pause_minority
net_ticktime = 15
"""


def write(path: Path, contents: bytes, mode: int) -> None:
    """Whole or not at all: a container may be stopped at any moment."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def kept(path: Path, made: bytes, mode: int = 0o600) -> bytes:
    """What the file holds; `made` where it holds nothing yet, which is written."""
    there = path.read_bytes() if path.exists() else b""
    if there.strip():
        return there
    write(path, made, mode)
    return made


def definitions(password: bytes) -> bytes:
    """What RabbitMQ imports at its start: one user, no `guest`."""
    salt = os.urandom(4)
    user = {
        "name": USER,
        "password_hash": base64.b64encode(salt + hashlib.sha256(salt + password).digest()).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
    }
    # programs of miros-rabbitmq declare what they like
    own = dict.fromkeys(RIGHTS, ".*") if os.environ.get("FLEET_MESH") else RIGHTS
    rights = {"user": USER, "vhost": "/", **own}
    return json.dumps({"vhosts": [{"name": "/"}], "users": [user], "permissions": [rights]}, indent=1).encode()


def make_tls(brokers: list[str]) -> str:
    """Certificates for these brokers, where there are none; what their configuration says of them."""
    from make_certificates import make

    if not (NODES / "ca.pem").exists() or not (BROKER / "broker.key").exists():
        made = make([*brokers, "localhost"])
        write(BROKER / "broker.pem", made.certificate, 0o644)
        write(BROKER / "ca.pem", made.ca, 0o644)
        write(NODES / "ca.pem", made.ca, 0o644)
        write(BROKER / "broker.key", made.key, 0o644)
    return TLS


def make_cluster(brokers: list[str]) -> str:
    """The secret that members of a cluster share, and what their configuration says of them."""
    kept(BROKER / "erlang-cookie", secrets.token_hex(32).encode(), 0o644)
    nodes = [f"cluster_formation.classic_config.nodes.{n} = rabbit@{name}\n" for n, name in enumerate(brokers, 1)]
    return CLUSTER + "".join(nodes)


def say(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


def main() -> None:
    brokers = [name for name in os.environ.get("FLEET_BROKERS", "").split(",") if name] or ["rabbitmq"]
    try:
        keys = parse_keys(kept(NODES / "keys", generate_key() + b"\n"), str(NODES / "keys"))
    except SettingsError as error:
        say(f"ERROR {error}")
        sys.exit(2)
    password = kept(NODES / "rabbit-password", secrets.token_urlsafe(32).encode())
    config = CONFIG
    config += make_tls(brokers) if os.environ.get("FLEET_TLS") else ""
    config += make_cluster(brokers) if len(brokers) > 1 else ""
    # open to all in a volume that only brokers mount, because their user has another number
    write(BROKER / "definitions.json", definitions(password), 0o644)
    write(BROKER / "50-fleet.conf", config.encode(), 0o644)
    say(f"key {key_id(keys[0])} and the broker's user {USER!r} are there")


if __name__ == "__main__":
    main()
