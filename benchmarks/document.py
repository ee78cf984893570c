"""The document that everything is measured with: 2 kB of a LAN's peers."""

from __future__ import annotations

from typing import Any

PEERS = {
    f"192.168.1.{number}": {"at": 1_700_000_000.5 + number, "by": "alpha-1234abcd", "rtt": 0.0005 * number}
    for number in range(20)
}
DOCUMENT: dict[str, Any] = {
    "addresses": list(PEERS),
    "amqp_urls": [f"amqp://{address}:5672/%2F?heartbeat=10" for address in list(PEERS)[:10]],
    "time_out_in_minutes": 30,
    **PEERS,
}
