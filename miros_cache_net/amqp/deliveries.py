"""Turns what pika delivers into a `Delivery`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miros_cache_net.amqp.link import Delivery
from miros_cache_net.amqp.topology import is_server_named


def delivery_of(
    method: Any,
    properties: Any,
    body: bytes,
    *,
    from_requests: bool = False,
    taken: Callable[[], None] = lambda: None,
) -> Delivery:
    """Keeps only properties of the expected type and shape: a stranger may have set them."""
    reply_to, headers = properties.reply_to, properties.headers
    key_id = headers.get("key-id") if isinstance(headers, dict) else None
    return Delivery(
        body=body,
        routing_key=method.routing_key if isinstance(method.routing_key, str) else "",
        reply_to=reply_to if isinstance(reply_to, str) and is_server_named(reply_to) else "",
        key_id=key_id if isinstance(key_id, str) else "",
        from_requests=from_requests,
        exchange=method.exchange,
        message_id=_short_text(properties.message_id),
        app_id=_short_text(properties.app_id),
        taken=taken,
    )


def _short_text(value: Any) -> str:
    return value if isinstance(value, str) else ""
