"""`top` on a terminal: keys in, pages out."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from rich.console import RenderableType
from rich.live import Live

from miros_cache_net.cli.top.fleet import Picture, WatchedFleet
from miros_cache_net.cli.top.keyboard import Keyboard
from miros_cache_net.cli.top.screen import View, console_for, diff_page, fleet_page, node_page, shown_rows

#: How often the screen is drawn when no key is pressed.
_DRAW_EVERY_S: Final = 0.25


def run(fleet: WatchedFleet, file_path: str | None) -> None:
    """Show the fleet, that of the cache file at `file_path`, until the user quits.  Needs a terminal."""
    console = console_for(True)
    top = Top(fleet)
    with Keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        while top.is_on:
            live.update(top.page(console.width, console.height), refresh=True)
            key = keyboard.next_key(_DRAW_EVERY_S)
            if key is not None:
                top.press(key)
            if top.to_trace:
                live.stop()
                _trace(top.to_trace, file_path)
                top.to_trace = ""
                live.start()


def _trace(node: str, file_path: str | None) -> None:
    """What that node's charts did and do, until Ctrl-C, which ends the trace only."""
    of_file = () if file_path is None else ("--file", file_path)
    before = signal.signal(signal.SIGINT, lambda *_: None)  # unlike an ignored signal, a child takes it as usual
    try:
        subprocess.run([sys.executable, "-m", "miros_cache_net", "trace", *of_file, "--", node], check=False)
    finally:
        signal.signal(signal.SIGINT, before)


class Top:
    """What the keys do; draws nothing by itself.

    is_on     the user has not quit
    to_trace  the node whose trace the user wants to see now, "" if none
    """

    def __init__(self, fleet: WatchedFleet) -> None:
        self._fleet = fleet
        self.view = View()
        self.is_on = True
        self.to_trace = ""
        self._compared = ("", "")
        self._keys: dict[str, Callable[[Picture], None]] = {
            "up": lambda _: self._move(-1),
            "k": lambda _: self._move(-1),
            "down": lambda _: self._move(1),
            "j": lambda _: self._move(1),
            "enter": self._open,
            " ": self._mark,
            "d": self._compare,
            "t": self._trace,
            "/": lambda _: self._set(typing=True, filter=""),
            "escape": lambda _: self._set(page="fleet", filter="" if self.view.page == "fleet" else self.view.filter),
        }

    def press(self, key: str) -> None:
        """Do what `key` stands for."""
        self._set(note="")
        if self.view.typing:
            self._type(key)
        elif key in ("q", ""):
            self.is_on = False
        elif key in self._keys:
            self._keys[key](self._fleet.picture())

    def page(self, width: int, height: int) -> RenderableType:
        """What to show now."""
        picture = self._fleet.picture()
        rows = shown_rows(picture, self.view)
        self._set(selected=max(0, min(self.view.selected, len(rows) - 1)))
        if self.view.page == "node" and rows:
            return node_page(rows[self.view.selected], self.view)
        if self.view.page == "diff":
            return diff_page(self._compared, self._fleet.documents(), self.view)
        return fleet_page(picture, self.view, width, height)

    def _set(self, **what: object) -> None:
        self.view = self.view._replace(**what)  # type: ignore[arg-type]

    def _move(self, by: int) -> None:
        self._set(selected=max(0, self.view.selected + by))

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self._set(typing=False, filter=self.view.filter if key == "enter" else "")
        elif key == "backspace":
            self._set(filter=self.view.filter[:-1])
        elif len(key) == 1 and key.isprintable():
            self._set(filter=self.view.filter + key, selected=0)

    def _open(self, picture: Picture) -> None:
        if self._chosen(picture):
            self._set(page="node")

    def _chosen(self, picture: Picture) -> str:
        rows = shown_rows(picture, self.view)
        return rows[self.view.selected].status["node"] if self.view.selected < len(rows) else ""

    def _trace(self, picture: Picture) -> None:
        self.to_trace = self._chosen(picture)

    def _mark(self, picture: Picture) -> None:
        chosen = self._chosen(picture)
        self._set(marked="" if chosen == self.view.marked else chosen)

    def _compare(self, picture: Picture) -> None:
        """The chosen node with the marked one, or without a mark with the first that has another document."""
        chosen = self._chosen(picture)
        if not chosen:
            return
        version = next((row.status["version"] for row in picture.rows if row.status["node"] == chosen), "")
        others = [row.status["node"] for row in picture.rows if row.status["version"] != version]
        other = self.view.marked or next(iter(others), "")
        if not other or other == chosen:
            self._set(note="all have the same document: mark a node with space to compare with it all the same")
            return
        self._compared = (other, chosen)
        self._fleet.want(*self._compared)
        self._set(page="diff")
