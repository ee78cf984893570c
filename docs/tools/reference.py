"""Writes the reference pages that come from the code, charts and settings, and the pictures of the charts.

A picture is drawn again only if its chart has changed: another release of Graphviz lays the same out otherwise.

python docs/tools/reference.py          write them
python docs/tools/reference.py --check  exit 1 if one is out of date
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from xml.etree import ElementTree

from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.lan_recce import LanRecceChart
from miros_cache_net.discovery.man_net import ManNetChart
from miros_cache_net.discovery.scout import ProducerScoutChart
from miros_cache_net.node import CacheNode
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.view.diagram.declared import of_class
from miros_cache_net.view.diagram.svg import DIGEST, digest, svg_text

REFERENCE = Path(__file__).parents[1] / "reference"
PICTURES = Path(__file__).parents[1] / "_static" / "charts"
GENERATED = "<!-- written by docs/tools/reference.py from the code; change it there -->\n\n"
OWN = {"ENTRY": "entry", "EXIT": "exit", "INIT": "init"}


# --- charts -----------------------------------------------------------------------------------------

CHARTS = (CacheFileChart, CacheNode, ProducerScoutChart, LanRecceChart, LanChart, ManNetChart)


def charts_page() -> str:
    """Every chart: its place in words, its states as a diagram, its events as a table."""
    parts = [
        GENERATED + "# Charts\n\nStates, events and transitions, read from the charts themselves. `entry`, `exit` and "
        "`init` are the state's own; lower-case events are private to their chart. A state shows what it does without "
        "leaving, arrows show the rest; a dot is where it begins. `miros-cache-net chart` draws yours.\n\n"
        "A program reads the same from `STATES` of a chart's class, without building one: each `State` has a `name`, a "
        "`parent` (None: in no other), and `on`, the states that each signal may lead to (none: the chart stays). A "
        "chart starts in the first. Handlers are the methods `_<state>_<SIGNAL>`; one that goes where `STATES` does "
        "not say stays where it is, and `CACHE_ERROR` says so.\n"
    ]
    return "\n".join([*parts, *(chart_section(chart) for chart in CHARTS)])


def chart_section(chart: type[Chart]) -> str:
    summary = (inspect.getdoc(chart) or "").partition("\n\n")[0]
    rows = [
        f"| `{state.name}` | `{OWN.get(event, event)}` | {' or '.join(f'`{each}`' for each in targets) or '-'} |"
        for state in chart.STATES
        for event, targets in state.on.items()
    ]
    return "\n".join(
        [
            f"\n## {chart.__name__}\n\n{summary}\n",
            f"![States of {chart.__name__}](../_static/charts/{chart.__name__}.svg)\n",
            "| in state | event | goes to |\n| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def stale_pictures() -> list[type[Chart]]:
    """The charts whose picture is missing, or shows something else."""
    return [chart for chart in CHARTS if picture_digest(PICTURES / f"{chart.__name__}.svg") != digest(of_class(chart))]


def picture_digest(path: Path) -> str | None:
    """Of which diagram the picture is; None if there is no picture."""
    return ElementTree.fromstring(path.read_text(encoding="utf-8")).get(DIGEST) if path.exists() else None


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

A file that you *name* (`MIROS_CACHE_CONFIG`, `MIROS_CACHE_ENV_FILE`) is trusted, whoever owns it: bind mounts,
ConfigMaps. One that is *found* in the working directory, `.env` or `miros-cache-net.toml`, may be the work of others.
It counts only if it, and what a link leads to, is a regular file of your own or root's that nobody else may write (a
group that has your name and no other member excepted). Another one that sets something of ours is refused with its
mend; one that does not is passed over. A password or key from elsewhere (the environment, a key file) goes to no
broker that only a found file names, unless that is on this machine or in a trusted network that something else names.
Beside a password from elsewhere, be it in a URL, a found file may not say `tls_verify=false`, `tls_ca_file`,
`hosts_file`, `trusted_networks` or any `discover` but `auto`: to whom it is sent, and what guards it, is for its
owner to say. One line refuses it; name the file, or set the same in the environment.

`.env` is taken literally: `${...}` stands for itself. Byte order marks are taken off. `RABBIT_PORT=tcp://...`, which
Kubernetes and Docker set for a service called `rabbit`, is passed over with a line in the log. Where there is no home
directory, there is no user's TOML file and no default key file.

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
    for chart in stale_pictures():
        if "--check" in sys.argv:
            stale.append(f"{chart.__name__}.svg")
        else:
            PICTURES.mkdir(parents=True, exist_ok=True)
            (PICTURES / f"{chart.__name__}.svg").write_text(svg_text(of_class(chart)), encoding="utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run: python docs/tools/reference.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
