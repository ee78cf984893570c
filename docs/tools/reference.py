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
        "`init` are the state's own; lower-case events are private to their chart. A state lists the events that "
        "it handles without a transition, arrows show the others, a dot marks the start. `miros-cache-net chart` "
        "draws your own charts.\n\n"
        "A program can read the same from `STATES` of a chart's class, without an instance: each `State` has a `name`, "
        "a `parent` (None at the top), and `on`, the states that each signal may lead to (none: it stays). A chart "
        "starts in the first state. Handlers are the methods `_<state>_<SIGNAL>`. A transition that `STATES` does not "
        "list is refused, and reported as `CACHE_ERROR`.\n"
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
a variable that begins with `MIROS_CACHE_` but is not a setting is ignored, with a warning that names the nearest one.

A file that you *name* (`MIROS_CACHE_CONFIG`, `MIROS_CACHE_ENV_FILE`) is trusted, whoever owns it: bind mounts,
ConfigMaps. A file that is *found* in the working directory, `.env` or `miros-cache-net.toml`, may come from a
stranger. It is used only if it (and the target, if it is a link) is a regular file that belongs to you or root and that
nobody else may write; a group with your name and no other member is allowed. Any other found file is refused with a
remedy if it contains settings of this package, and ignored if not. A password or key from another source (the
environment, a key file) is not sent to a broker that only a found file names, unless that broker is on this machine or
in a trusted network that another source names. If a password comes from another source, even in a URL, a found file
must not set `tls_verify=false`, `tls_ca_file`, `hosts_file`, `trusted_networks`, or `discover` to anything but `auto`:
the password's owner decides who gets it and how it is protected. A one-line error says so; name the file, or set the
value in the environment.

`.env` is read literally, without interpolation of `${...}`. Byte order marks are removed. `RABBIT_PORT=tcp://...`,
which Kubernetes and Docker set for a service called `rabbit`, is ignored with a warning. Without a home directory there
is no TOML file of the user and no default key file.

`miros-cache-net settings` shows the values in effect, without secrets; `miros-cache-net doctor` checks it.

The file chart and the client (`CacheFileChart`, `Cache`, `read_cache`) use two of them. If no file is named, they
read `file` from the same sources in the same order as everything else, so that one directory has one cache file. A
program that names its file reads no sources. `MIROS_CACHE_NODE_NAME` is read from the environment only. On one machine
sharing needs nothing but the file.

A document takes its name from its file: nodes with a file `printers.json` share it with nodes on other hosts whose file
has that name, and with no others. `document` gives the document in `file` another name; for a node with another path it
applies only as an argument, `Settings(document=...)`.

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
