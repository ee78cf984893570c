"""Makes the fleet's key and its login at the broker, once; what is there already stays.

Key and password lie in a volume that only the nodes mount, open to their user alone.  The broker gets a
salted hash of the password, so that its own volume holds nothing that lets anybody in.  Neither is printed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path

from miros_cache_net.settings.key_file import generate_key, key_id

NODES = Path("/etc/miros-cache-net")
BROKER = Path("/etc/rabbitmq/conf.d")
USER = "fleet"
CONFIG = f"""\
load_definitions = {BROKER}/definitions.json
log.console = true
log.console.level = warning
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


def definitions(password: bytes) -> bytes:
    """What RabbitMQ imports at its start: one user, no `guest`."""
    salt = os.urandom(4)
    user = {
        "name": USER,
        "password_hash": base64.b64encode(salt + hashlib.sha256(salt + password).digest()).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
    }
    rights = {"user": USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return json.dumps({"vhosts": [{"name": "/"}], "users": [user], "permissions": [rights]}, indent=1).encode()


def main() -> None:
    key, password = NODES / "keys", NODES / "rabbit-password"
    if not key.exists():
        write(key, generate_key() + b"\n", 0o600)
    if not password.exists():
        write(password, secrets.token_urlsafe(32).encode(), 0o600)
    # open to all, because the broker's user has another number
    write(BROKER / "definitions.json", definitions(password.read_bytes()), 0o644)
    write(BROKER / "50-fleet.conf", CONFIG.encode(), 0o644)
    print(f"key {key_id(key.read_text().split()[0])} and the broker's user {USER!r} are there")


if __name__ == "__main__":
    main()
