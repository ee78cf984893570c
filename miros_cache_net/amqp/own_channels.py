"""The channels that one link has opened on a possibly shared connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class OwnChannels:
    """Opens channels on the connection, and can close all that it opened."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channels: list[Any] = []

    def channel(self, on_open_callback: Callable[[Any], None]) -> Any:
        self._channels = [channel for channel in self._channels if not channel.is_closed]
        self._channels.append(self._connection.channel(on_open_callback=on_open_callback))
        return self._channels[-1]

    def close(self) -> None:
        for channel in self._channels:
            if not channel.is_closed and not channel.is_closing:
                channel.close()
