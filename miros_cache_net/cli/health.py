"""`miros-cache-net health`."""

from __future__ import annotations

from typing import Any, Final

import click

from miros_cache_net.cli.cache_file import chosen_path, file_option, json_option
from miros_cache_net.cli.exits import Exit
from miros_cache_net.cli.output import print_json, print_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from miros_cache_net.host.questions import Answer

#: A running bridge answers in milliseconds, on a busy machine within a second; a stopped one never does.
_ANSWER_S: Final = 5.0
#: More files are not named, to keep to one line.
_NAMED: Final = 3
#: The checks that may fail for a while, by their names in `fleet.health`.
_OF_TOUCH: Final = ("link", "canary", "in step")


@click.command("health")
@file_option
@click.option(
    "--max-out-of-touch-s",
    "most_s",
    type=click.FloatRange(min=0),
    metavar="S",
    default=0.0,
    show_default=True,
    help="How long the host may lack a broker, or not be in step yet, and still count as healthy.",
)
@click.option("--alive", is_flag=True, help="Only whether the node answers: what a restart would mend.")
@json_option
def command(file_path: str | None, most_s: float, alive: bool, as_json: bool) -> int:
    """Say whether this host is in step with the fleet, and if not, why.

    One line and an exit code, for containers and supervisors: 0 healthy, 1 not.  The command asks the node that
    links this host to the broker, through its socket, whether it consumes, is in step and hears itself through the
    exchange; whether it understands the others, agrees with their clocks, and exceeds no cap; and whether its key, its
    file and its disk are usable.  It reads no settings and contacts no broker, so it takes a tenth of a second.  A node
    that is stopped or hangs does not answer; the command then says no within 5 s.

    \b
    Examples:
      miros-cache-net health
      miros-cache-net health --max-out-of-touch-s 60
      miros-cache-net health --alive
      miros-cache-net health --json | jq -r '.nodes[].checks[] | select(.ok | not) | .detail'
    """
    path = chosen_path(file_path)
    found = judged(path, most_s, only_alive=alive)
    if as_json:
        print_json(found)
    elif found["healthy"] and alive:
        print_line(f"alive: {', '.join(str(node.get('node')) for node in found['nodes'])}")
    elif found["healthy"]:
        print_line(f"healthy: {', '.join(_with(node) for node in found['nodes'])}")
    else:
        print_line(f"unhealthy: {found['why']}")
    return Exit.DONE if found["healthy"] else Exit.NO


def judged(path: Path, most_s: float, *, only_alive: bool = False) -> dict[str, Any]:
    """What ``--json`` prints of the host whose cache file is at `path`; `only_alive`: no failed check counts."""
    from miros_cache_net.host.stranger import health_of

    nodes = [_judged(answer, most_s, only_alive) for answer in health_of(path, _ANSWER_S)]
    why = "; ".join(node["why"] for node in nodes if node["why"])
    if not nodes:
        why = _unserved(path)
    return {"healthy": not why, "why": why, "file": str(path), "nodes": nodes}


def _unserved(path: Path) -> str:
    from miros_cache_net.host.stranger import served_beside

    if others := served_beside(path):
        names = ", ".join(map(str, others[:_NAMED]))
        return f"no node of this host serves {path}; one serves {names}: name it with --file"
    return f"no node of this host serves {path}: start `miros-cache-net node`, or a program with a CacheNode"


def _judged(answer: Answer, most_s: float, only_alive: bool) -> dict[str, Any]:
    """What a node reports of itself, and in one line why it is not healthy ("" if it is)."""
    facts = answer.value if isinstance(answer.value, dict) else {}
    checks = [each for each in facts.get("checks") or () if isinstance(each, dict)]
    out_s = facts.get("out_of_touch_s")
    forgiven = _OF_TOUCH if isinstance(out_s, (int, float)) and out_s < most_s else ()
    failed = {each.get("name"): str(each.get("detail")) for each in checks if not each.get("ok")}
    needs_link = _OF_TOUCH[1:] if _OF_TOUCH[0] in failed else ()
    why = answer.error or "; ".join(
        detail for name, detail in failed.items() if name not in forgiven and name not in needs_link
    )
    if only_alive:
        return {**facts, "checks": checks, "why": answer.error}
    if not why and not checks:
        why = "the bridge of this host reports no checks: run one release of miros-cache-net on all of this host"
    return {**facts, "checks": checks, "why": why}


def _with(node: dict[str, Any]) -> str:
    """The link of a healthy node, in words."""
    link: dict[str, Any] = next((each for each in node["checks"] if each.get("name") == "link"), {})
    if not link.get("ok"):
        return f"{node.get('node')} has been out of touch for only {float(node['out_of_touch_s']):.0f} s"
    return f"{node.get('node')} is in step with the fleet through {link.get('detail')}"
