"""The root command: which commands exist, and where each of them lives.

It is separate from `main`, which imports it under its guard: a Ctrl-C during that import ends in one line too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from miros_cache_net.cli.exits import PROGRAM
from miros_cache_net.cli.lazy import LazyCommand, LazyGroup, help_if_bare
from miros_cache_net.cli.log_lines import warn_on_stderr

if TYPE_CHECKING:
    # PyInstaller packs only what some file imports; these imports never run
    from miros_cache_net.cli import (  # noqa: F401
        chart,
        completion,
        compose,
        demo,
        dev,
        discover,
        doctor,
        health,
        help,
        install_service,
        key,
        node,
        read,
        run,
        scout,
        settings,
        status,
        top,
        trace,
        update,
        view,
        watch,
        write,
    )

_HERE: Final = "miros_cache_net.cli."
#: In the order in which users meet them.  Each summary equals the first line of the command's help; a test compares.
SECTIONS: Final = {
    "The cache file of this machine": (
        LazyCommand("read", _HERE + "read", "Print the document."),
        LazyCommand("write", _HERE + "write", "Replace the document with a JSON object."),
        LazyCommand("update", _HERE + "update", "Change single keys of the document."),
        LazyCommand("watch", _HERE + "watch", "Print the document's changes as they happen."),
    ),
    "The fleet": (
        LazyCommand("node", _HERE + "node", "Run a node in the foreground until a signal."),
        LazyCommand("status", _HERE + "status", "Show every node of the fleet that answers."),
        LazyCommand("trace", _HERE + "trace", "Show what the charts of every node did and do, in one order."),
        LazyCommand("top", _HERE + "top", "Show the fleet live: every node, what is wrong, the last changes."),
        LazyCommand("health", _HERE + "health", "Say whether this host is in step with the fleet, and if not, why."),
        LazyCommand("discover", _HERE + "discover", "Find the brokers of this machine's networks."),
        LazyCommand("scout", _HERE + "scout", "Say whether each HOST has a usable RabbitMQ, and if not, why."),
        LazyCommand("view", _HERE + "view", "Show the fleet as a live web page."),
    ),
    "Programs": (
        LazyCommand("run", _HERE + "run", "Run an unchanged miros-rabbitmq program."),
        LazyCommand("chart", _HERE + "chart", "Draw a statechart."),
    ),
    "Set-up": (
        LazyCommand(
            "doctor", _HERE + "doctor", "Check this machine and the whole fleet, and say how to fix what is wrong."
        ),
        LazyCommand("install-service", _HERE + "install_service", "Write a systemd unit that runs a node."),
        LazyCommand("compose", _HERE + "compose", "Write files for a fleet in containers."),
        LazyCommand("settings", _HERE + "settings", "Show every setting and where it comes from."),
        LazyCommand("key", _HERE + "key", "Make and rotate keys."),
        LazyCommand("completion", _HERE + "completion", "Print the completion script of the shell for this command."),
        LazyCommand("help", _HERE + "help", "Show the help of a command, or of all."),
    ),
    "See it work": (
        LazyCommand("dev", _HERE + "dev", "Run a fleet on this machine until Ctrl-C, to try things."),
        LazyCommand(
            "demo", _HERE + "demo", "Show the main use: three nodes on this machine, one discovers, two reuse."
        ),
    ),
}


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> bool:
    if wanted:
        from miros_cache_net.release import release

        print(f"{PROGRAM} {release() or '(not installed)'}")
        ctx.exit()
    return wanted


@click.group(
    PROGRAM,
    cls=LazyGroup,
    sections=SECTIONS,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done, 1 the answer is no, 2 wrong usage, input or settings, 3 the file, the broker or the "
        "fleet cannot be reached or used, 130 interrupted (143 by SIGTERM, 129 by SIGHUP)."
    ),
)
@click.option("--version", is_flag=True, help="Show the version and exit.", is_eager=True, callback=_show_version)
@click.pass_context
def root(ctx: click.Context, version: bool) -> int:
    """One machine pays for a slow discovery; every other one gets the result at once.

    \b
    Start here:
      miros-cache-net doctor                       what is missing, and how to fix it
      echo '{"a": 1}' | miros-cache-net write      put a document into the cache
      miros-cache-net read                         see it, and how old it is
    """
    warn_on_stderr()
    return help_if_bare(ctx)
