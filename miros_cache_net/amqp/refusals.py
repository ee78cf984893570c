"""A broker's refusal of a message rather than of the link: size, permissions, a queue that rejects it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pika.exceptions import ChannelClosedByBroker

from miros_cache_net.errors import MessageRefused
from miros_cache_net.settings.broker_address import BrokerAddress

_SIZE: Final = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")
_TOPIC: Final = re.compile(r"access to topic '(.*)' in exchange '(.*)' in vhost '.*' refused")
_EXCHANGE: Final = re.compile(r"access to exchange '(.*)' in vhost '.*' refused")


@dataclass(frozen=True)
class Refusal:
    """Which messages the broker refuses: longer than `most_bytes`, or to `exchange` with `routing_key` (None: any)."""

    error: MessageRefused
    most_bytes: int | None = None
    exchange: str | None = None
    routing_key: str | None = None

    def concerns(self, exchange: str, routing_key: str, body: bytes) -> bool:
        if self.most_bytes is not None:
            return len(body) > self.most_bytes
        return exchange == self.exchange and self.routing_key in (None, routing_key)


def refusal_in(address: BrokerAddress, reason: BaseException) -> Refusal | None:
    """The refusal in a publishing channel's close reason; None if no message caused it."""
    if not isinstance(reason, ChannelClosedByBroker):
        return None
    text = " ".join(str(reason.reply_text).split())[:600]
    if reason.reply_code == 406 and (found := _SIZE.search(text)):
        size, most = map(int, found.groups())
        return Refusal(_too_long(address, size, most), most_bytes=most)
    if reason.reply_code == 403 and (found := _TOPIC.search(text)):
        return Refusal(_no_right(address, text, "topic_"), exchange=found[2], routing_key=found[1])
    if reason.reply_code == 403 and (found := _EXCHANGE.search(text)):
        return Refusal(_no_right(address, text, ""), exchange=found[1])
    return None


def rejected(address: BrokerAddress, exchange: str) -> MessageRefused:
    """The error for a message to `exchange` that a bound queue rejected (``basic.nack``)."""
    return MessageRefused(
        f"RabbitMQ at {address}: a queue that is bound to exchange {exchange!r} rejected this message, so some "
        "hosts may not have it. If a broker of the cluster has just gone, its queues go too, and this ends by itself. "
        "If it does not end, the queue is another program's, full, and has the policy overflow: reject-publish; empty "
        f"it, or set drop-head (rabbitmqctl list_bindings -p {address.vhost}, list_queues -p {address.vhost} name "
        "messages policy)"
    )


def _too_long(address: BrokerAddress, size: int, most: int) -> MessageRefused:
    return MessageRefused(
        f"RabbitMQ at {address} accepts messages of at most {most} bytes, and this one has {size}: it is held back "
        "until the document changes; store less in the document, or raise max_message_size there and restart"
    )


def _no_right(address: BrokerAddress, text: str, which: str) -> MessageRefused:
    return MessageRefused(
        f"RabbitMQ at {address} does not let {address.user!r} send this message (403 {text}); run there: "
        f"rabbitmqctl set_{which}permissions -p {address.vhost} {address.user} ..."
    )
