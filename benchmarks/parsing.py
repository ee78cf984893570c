"""Strict parsing beside the standard parser, and what a stranger's large message costs beside one hash of it."""

from __future__ import annotations

import hashlib
import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from benchmarks.document import DOCUMENT, PEERS
from benchmarks.measure import Line, side_by_side_us
from miros_cache_net.document import strict_json
from miros_cache_net.errors import UnknownKey
from miros_cache_net.wire.keyring import KeyRing


def parsing(_directory: Path) -> list[Line]:
    """Documents of a LAN's peers."""
    lines = []
    for name, size, times in (("2 kB", 0, 2000), ("62 kB", 62_000, 200), ("1 MB", 1_000_000, 15)):
        text = json.dumps(_peers(size) if size else DOCUMENT, separators=(",", ":")).encode()
        ours, reference = side_by_side_us(
            [lambda text=text: strict_json.loads(text), lambda text=text: json.loads(text)],  # type: ignore[misc]
            times,
        )
        lines.append(Line(f"strict parsing of {name}", ours, reference, "us", "<= 3", "against json.loads"))
    return lines


def strangers(_directory: Path) -> list[Line]:
    """20 MiB in a key that nobody here holds."""
    ring = KeyRing.from_keys([Fernet.generate_key() for _ in range(3)])
    token = Fernet(Fernet.generate_key()).encrypt(bytes(15 * 1024 * 1024))

    def refused() -> None:
        with suppress(UnknownKey):
            ring.decrypt(token)

    ours, reference = side_by_side_us([refused, lambda: hashlib.sha256(token).digest()], 7)
    note = "against one SHA-256 of it"
    return [Line("refusing a stranger's 20 MiB, three keys", ours / 1000, reference / 1000, "ms", note=note)]


def _peers(size: int) -> dict[str, Any]:
    peers: dict[str, Any] = {}
    for network, (address, peer) in itertools.product(range(1000), PEERS.items()):
        if len(peers) * 75 >= size:
            break
        peers[f"{network}.{address}"] = peer
    return peers
