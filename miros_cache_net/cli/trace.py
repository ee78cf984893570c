"""`miros-cache-net trace`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import click

from miros_cache_net.cli.cache_file import file_option, json_option
from miros_cache_net.cli.completing import nodes as known_nodes
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.output import print_json

if TYPE_CHECKING:
    from miros_cache_net.cli.trace_text import Form
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.fleet.trace_watch import HostStep, TraceAnswer

#: The hosts' past arrives within this time; a shorter watch would end before it.
_PAST_S: Final = 1.5
_UNITS_S: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smh]?)", value) if isinstance(value, str) else None
        if found is None:
            self.fail(f"{value!r} is no duration; write 60s, 5m or 1h", param, ctx)
        return float(found[1]) * _UNITS_S[found[2]]


@click.command("trace")
@click.argument("names", metavar="[NODE...]", nargs=-1, shell_complete=known_nodes)
@click.option("--chart", "charts", metavar="NAME", multiple=True, help="Only this chart; may be repeated.")
@click.option(
    "--for", "for_s", type=_Duration(), metavar="TIME", help="Exit after 60s, 5m, 1h; 0s: show the past only."
)
@click.option("--spy", is_flag=True, help="Show the lines of each chart's spy too, of what happens from now on.")
@click.option("--payloads", is_flag=True, help="Show payloads too, without secrets, of what happens from now on.")
@click.option("--mermaid", is_flag=True, help="Print a sequence diagram for Mermaid.")
@file_option
@json_option
def command(
    names: tuple[str, ...],
    charts: tuple[str, ...],
    for_s: float | None,
    spy: bool,
    payloads: bool,
    mermaid: bool,
    file_path: str | None,
    as_json: bool,
) -> int:
    """Show what the charts of every node did and do, in one order.

    First come the steps that every host remembers, then each as it happens, until Ctrl-C: one line per event, with
    the time, the host, the chart, the event, and the state before and after.  The charts are those of all processes
    with a node: the project's own, and those that a program builds.  Causes stand before their effects also where the
    hosts' clocks differ.  NODE is the name of a node or of its host.
    Nothing travels unless somebody watches; a host ends a watch by itself some seconds after its watcher is gone.
    The exit code is 1 if no node answers, or one of those that were named does not.

    \b
    Examples:
      miros-cache-net trace
      miros-cache-net trace --for 0s                what happened before a fault
      miros-cache-net trace alpha --chart cache.json --spy
      miros-cache-net trace --for 60s --mermaid > what-happened.mmd
      miros-cache-net trace --json | jq --unbuffered 'select(.took_us > 10000)'
    """
    from miros_cache_net.cli.fleet_settings import load_settings, silence_line
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings.which_file import cache_path

    if mermaid and as_json:
        raise click.UsageError("--json and --mermaid exclude each other")
    settings = load_settings(file_path)
    until_s = float("inf") if for_s is None else time.monotonic() + max(for_s, _PAST_S)
    with FleetClient(settings, cache_path(settings.file)) as client:
        wanted = {"nodes": list(names), "charts": list(charts), "spy": spy, "payloads": payloads}
        watched = _Watched(None if as_json else _form(mermaid))
        watched.follow(client, wanted, until_s)
        if not watched.hosts:
            say(silence_line(client))
        if client.unread:
            say(f"{client.unread} messages came faster than they could be printed, and are missing")
    absent = sorted(set(names) - watched.hosts)
    if absent and watched.hosts:
        say(f"no answer from {', '.join(absent)}")
    return Exit.DONE if watched.hosts and not absent else Exit.NO


def _form(mermaid: bool) -> Form:
    from miros_cache_net.cli.trace_text import MermaidForm, TextForm

    return MermaidForm() if mermaid else TextForm()


class _Watched:
    """Prints the steps of a watch in their order; `hosts`: the names of the nodes and hosts that have answered."""

    def __init__(self, form: Form | None) -> None:
        from miros_cache_net.fleet.trace_watch import InOrder

        self._form, self._order = form, InOrder()
        self.hosts: set[str] = set()

    def follow(self, client: FleetClient, wanted: dict[str, Any], until_s: float) -> None:
        try:
            for answer in client.traces(wanted, until_s):
                if answer is not None:
                    self._take(answer)
                for each in self._order.ripe(time.monotonic()):
                    self._print(each)
        finally:
            for each in self._order.rest():
                self._print(each)

    def _take(self, answer: TraceAnswer) -> None:
        self.hosts |= {answer.node, answer.host}
        self._order.put(answer.steps, time.monotonic())
        if answer.missed:
            say(f"{answer.host}: {answer.missed} steps are missing, it does more than a watcher may be sent")
        if answer.said:
            say(f"{answer.host}: {answer.said}")

    def _print(self, each: HostStep) -> None:
        if self._form is None:
            from miros_cache_net.cli.trace_text import as_json

            print_json(as_json(each))
            return
        for line in self._form.lines(each):
            print(line, flush=True)
