"""The command's root: what there is, and where each command lives."""

from __future__ import annotations

from typing import Final

import click

from miros_cache_net.cli.exits import PROGRAM
from miros_cache_net.cli.lazy import LazyCommand, LazyGroup, help_if_bare

_HERE: Final = "miros_cache_net.cli."
#: In the order in which people meet them.  A command's `summary` is the first line of its help; a test compares.
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
        LazyCommand("discover", _HERE + "discover", "Find the brokers of this machine's networks."),
        LazyCommand("scout", _HERE + "scout", "Tell whether each HOST has a usable RabbitMQ, and why not."),
    ),
    "Set-up": (
        LazyCommand("doctor", _HERE + "doctor", "Check what a node needs, and say how to mend it."),
        LazyCommand("settings", _HERE + "settings", "Show every setting and where it comes from."),
        LazyCommand("key", _HERE + "key", "Make and rotate keys."),
    ),
    "To see it work": (
        LazyCommand(
            "demo", _HERE + "demo", "Play the main job: three nodes on this machine, one discovers, two reuse."
        ),
    ),
}


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> bool:
    if wanted:
        from importlib import metadata

        try:
            version = metadata.version(PROGRAM)
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        click.echo(f"{PROGRAM} {version}")
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
        "fleet cannot be reached, 130 interrupted (143 by SIGTERM)."
    ),
)
@click.option("--version", is_flag=True, help="Show the version and exit.", is_eager=True, callback=_show_version)
@click.pass_context
def root(ctx: click.Context, version: bool) -> int:
    """One machine pays for a slow discovery; every other one has its result at once.

    \b
    Start here:
      miros-cache-net doctor                       what is missing, and how to mend it
      echo '{"a": 1}' | miros-cache-net write      put a document into the cache
      miros-cache-net read                         see it, and how old it is
    """
    return help_if_bare(ctx)
