"""What pika hands over, as a `Delivery`."""

from __future__ import annotations

from typing import Any

from miros_cache_net.amqp import topology
from miros_cache_net.amqp.link import Delivery


def delivery_of(method: Any, properties: Any, body: bytes, *, from_requests: bool = False) -> Delivery:
    """Only what has the expected type and shape of all that a stranger may have set."""
    reply_to, headers = properties.reply_to, properties.headers
    key_id = headers.get("key-id") if isinstance(headers, dict) else None
    return Delivery(
        body=body,
        routing_key=method.routing_key if isinstance(method.routing_key, str) else "",
        reply_to=reply_to if isinstance(reply_to, str) and topology.is_server_named(reply_to) else "",
        key_id=key_id if isinstance(key_id, str) else "",
        from_requests=from_requests,
    )
