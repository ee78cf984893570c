"""What a RabbitMQ complains of in its log."""

from __future__ import annotations

import re

#: How hosts find out that another has the lease, or a name; and how connections end with their broker.
_EXPECTED = ("resource_locked", "connection_forced")
_ENTRY = re.compile(r"(?P<entry>\d\d:\d\d:\d\d\.\d+\S* \[(error|warning)\] <[\d.]+>) (?P<words>.*)")


def complaints(log: str) -> list[str]:
    """The entries that warn of a deprecated feature, or refuse something."""
    entries: dict[str, str] = {}
    for found in _ENTRY.finditer(log):
        entries[found["entry"]] = f"{entries.get(found['entry'], found['entry'])} {found['words']}"
    return [
        words
        for entry, words in entries.items()
        if ("[error]" in entry and not any(name in words for name in _EXPECTED)) or warned_of(words)
    ]


def warned_of(log: str) -> list[str]:
    """The deprecated features that a log names."""
    return sorted(set(re.findall(r"Deprecated features: `(\w+)`", log)))
