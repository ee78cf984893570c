"""Writes the reference pages that come from the code: charts and settings.

python docs/tools/reference.py          write them
python docs/tools/reference.py --check  exit 1 if one is out of date
"""

from __future__ import annotations

import ast
import inspect
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from miros.event import signals

from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.lan_recce import LanRecceChart
from miros_cache_net.discovery.man_net import ManNetChart
from miros_cache_net.discovery.scout import ProducerScoutChart
from miros_cache_net.node import CacheNode
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import State
from miros_cache_net.wire.keyring import generate_key

REFERENCE = Path(__file__).parents[1] / "reference"
GENERATED = "<!-- written by docs/tools/reference.py from the code; change it there -->\n\n"
#: Where `trans`, `post_fifo` and the like come from: no chart's own business.
_BASES = {"miros_cache_net.statechart.chart", "miros_cache_net.statechart.life", "miros.hsm", "miros.activeobject"}
OWN = {"ENTRY": "entry", "EXIT": "exit", "INIT": "init"}


# --- charts -----------------------------------------------------------------------------------------

CHARTS = (CacheFileChart, CacheNode, ProducerScoutChart, LanRecceChart, LanChart, ManNetChart)


def charts_page() -> str:
    """Every chart: its place in words, its states as a diagram, its events as a table."""
    parts = [
        GENERATED + "# Charts\n\nStates, events and transitions, read from the charts themselves. `entry`, `exit` and "
        "`init` are the state's own; lower-case events are private to their chart.\n\n"
        "A program reads the same from `STATES` of a chart's class, without building one: each `State` has a `name`, a "
        "`parent` (None: in no other), and `on`, the states that each signal may lead to (none: the chart stays). A "
        "chart starts in the first. Handlers are the methods `<state>_<SIGNAL>`; one that goes where `STATES` does not "
        "say stays where it is, and `CACHE_ERROR` says so.\n"
    ]
    return "\n".join([*parts, *(chart_section(chart, states_of(chart)) for chart in CHARTS)])


def chart_section(chart: type[Chart], states: Sequence[State]) -> str:
    summary = (inspect.getdoc(chart) or "").partition("\n\n")[0]
    rows = [
        f"| `{state.name}` | `{OWN.get(event, event)}` | {' or '.join(f'`{each}`' for each in targets) or '-'} |"
        for state in states
        for event, targets in state.on.items()
    ]
    return "\n".join(
        [
            f"\n## {chart.__name__}\n\n{summary}\n",
            "```{code-block} text\n" + "\n".join(tree(states, None)) + "\n```\n",
            "| in state | event | goes to |\n| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def tree(states: Sequence[State], parent: str | None, indent: str = "") -> Iterator[str]:
    """Nested boxes, as lines of text."""
    for state in states:
        if state.parent == parent:
            yield f"{indent}+-- {state.name}"
            yield from tree(states, state.name, indent + "|   ")


def states_of(chart: type[Chart]) -> Sequence[State]:
    """The chart's states; of one that declares them while it is built, what one of it has."""
    return chart.STATES or list(declared_states(built(chart)))


# --- charts that declare their states while they are built --------------------------------------------


def built(chart: type[Chart]) -> Any:
    """One of it, stopped, without a network."""
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(keys=generate_key().decode(), file=f"{directory}/node.json")
        if chart is CacheNode:
            broker = MemoryBroker()
            one: Any = CacheNode(settings=settings, link_factory=lambda _settings, place: MemoryLink(broker, place))
        else:
            file = f"{directory}/lan.json"
            one = LanChart("cache.#", settings.exchange, cache_file_path=file, candidates=list, settings=settings)
        one.stop()
    return one


def declared_states(chart: Chart) -> Iterator[State]:
    names = {number: name.removesuffix("_SIGNAL") for name, number in signals.items()}
    for name, parent in chart._parents.items():
        on = {
            names[number]: tuple(sorted(targets_of(chart, method, names[number], set())))
            for number, handler in chart._lookup.get(name, {}).items()
            if (method := inspect.unwrap(handler)).__name__ != "handled"
        }
        yield State(name, parent.__name__ if parent.__name__ in chart._parents else None, **on)


def targets_of(chart: Chart, method: Any, event: str, seen: set[str]) -> set[str]:
    """The states that the method may go to, itself or in the chart's methods that it calls."""
    if method.__name__ in seen:
        return set()
    seen.add(method.__name__)
    found: set[str] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method)))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called = getattr(type(chart), node.func.attr, None)
        if node.func.attr == "trans":
            found |= {name for part in ast.walk(node) if (name := state_named(part, event)) in chart._parents}
        elif inspect.isfunction(called) and called.__module__ not in _BASES:
            found |= targets_of(chart, called, event, seen)
    return found


def state_named(part: ast.AST, event: str) -> str:
    """The state that a part of ``self.trans(...)`` names: `self.state`, "state", or the one named like the event."""
    if isinstance(part, ast.Attribute):
        return event if part.attr == "signal_name" else part.attr
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""


# --- settings ---------------------------------------------------------------------------------------


def settings_page() -> str:
    """Every setting: names, default, meaning."""
    rows = [
        f"| `{setting.field}` | {'<br>'.join(f'`{name}`' for name in setting.env_names) or '-'} "
        f"| {f'`{setting.default}`' if setting.default else ''} | {setting.description} |"
        for setting in Settings.describe()
    ]
    return (
        GENERATED
        + """# Settings

Sources, later over earlier: the defaults, a TOML file (`$MIROS_CACHE_CONFIG`, else `miros-cache-net.toml` here, else
`~/.config/miros-cache-net/config.toml`), `.env` and the environment, arguments. In the TOML file a setting has the
name of the first column. A `*_FILE` variable names a file that holds the value. An unknown key or argument is an error;
a variable that begins with `MIROS_CACHE_` and is none of these is passed over, and the log names the nearest one.

`miros-cache-net settings` shows what is in force, without secrets; `miros-cache-net doctor` checks it.

The file chart and the client (`CacheFileChart`, `Cache`, `read_cache`) use two of them. Where no file is named they
look for `file`, in the same sources and the same order as everything else, so that one directory has one cache file; a
program that names its file reads none of these. `MIROS_CACHE_NODE_NAME` they take straight from the environment. On one
machine the file alone shares everything.

A document is called like its file: nodes on `printers.json` share it with those on a `printers.json` of other hosts,
and with no others. `document` gives the document in `file` another name; for a node that is given another path it
counts only where it came as an argument, `Settings(document=...)`.

| setting | environment | default | meaning |
| --- | --- | --- | --- |
"""
        + "\n".join(rows)
        + "\n"
    )


PAGES = {"charts.md": charts_page, "settings.md": settings_page}


def main() -> int:
    stale = []
    for name, make in PAGES.items():
        path, text = REFERENCE / name, make()
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        print(f"out of date: {', '.join(stale)}; run: python docs/tools/reference.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
