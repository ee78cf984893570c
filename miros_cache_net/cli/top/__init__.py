"""`miros-cache-net top`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from miros_cache_net.cli.cache_file import file_option
from miros_cache_net.cli.exits import Exit
from miros_cache_net.errors import SettingsError

if TYPE_CHECKING:
    from miros_cache_net.cli.top.fleet import WatchedFleet


@click.command("top")
@click.option("--once", is_flag=True, help="Print the fleet once, as it is now, and end; for pipes.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.5),
    metavar="S",
    default=2.0,
    show_default=True,
    help="How often every node is asked; a change that is heard asks at once.",
)
@file_option
def command(once: bool, every_s: float, file_path: str | None) -> int:
    """Show the fleet live: every node, what is wrong, the last changes.

    A row a node: the state of its chart, its document, how old that is and when it expires, how far its clock is off,
    how long the last change took to reach its file, its release, how long it has been up, its broker.  Below, what is
    wrong, each with its fix, and who changed which keys.  A narrow terminal shows fewer columns; Enter opens a node and
    shows all of it.

    \b
    Keys:
      up, down, Enter    choose a node, open it; Escape goes back
      t                  what the charts of that node do, until Ctrl-C
      Space, d           mark a node; compare its document with that of the chosen one
      /                  show only nodes that contain a text
      q, Ctrl-C          quit

    With --once the exit code is 1 if anything has failed, or nobody answers.

    \b
    Examples:
      miros-cache-net top
      miros-cache-net top --once | grep -i silent
    """
    from miros_cache_net.cli.fleet_settings import load_settings
    from miros_cache_net.cli.log_lines import log_to_stderr
    from miros_cache_net.cli.top.fleet import WatchedFleet
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings.which_file import cache_path

    if not once and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise SettingsError("this is no terminal", mend="use `miros-cache-net top --once`, or `status --json`")
    settings = load_settings(file_path)
    with FleetClient(settings, cache_path(settings.file)) as client:
        fleet = WatchedFleet(client)
        if once:
            return _print_once(fleet)
        log_to_stderr("CRITICAL", settings.log_format)  # the screen says what the log would
        with _asking(fleet, every_s):
            from miros_cache_net.cli.top.keys import run

            run(fleet, file_path)
    return Exit.DONE


def _print_once(fleet: WatchedFleet) -> int:
    from miros_cache_net.cli.checks.finding import FAILED
    from miros_cache_net.cli.top.screen import console_for, fleet_page

    for _ in range(2):  # what differs twice was not only under way
        fleet.ask()
    picture, console = fleet.picture(), console_for(sys.stdout.isatty())
    console.print(fleet_page(picture, None, console.width, 0))
    is_well = picture.rows and not any(finding.outcome == FAILED for finding in picture.wrong)
    return Exit.DONE if is_well else Exit.NO


@contextmanager
def _asking(fleet: WatchedFleet, every_s: float) -> Iterator[None]:
    """Ask on a thread of its own, so that keys are obeyed at once."""
    over = threading.Event()
    thread = threading.Thread(target=fleet.ask_for_ever, args=(every_s, over), name="top", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
