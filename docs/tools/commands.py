"""Writes docs/reference/commands.md from the commands themselves; a test compares.

python docs/tools/commands.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from miros_cache_net.cli.root import SECTIONS, root

PAGE = Path(__file__).parents[1] / "reference" / "commands.md"

HEAD = """\
# Commands

<!-- Made by docs/tools/commands.py from the commands' own help; change it there. -->

`miros-cache-net COMMAND`, or `python -m miros_cache_net COMMAND`. Every command has `--help` (`-h`).

## What all commands share

Output: data goes to standard output, everything else to standard error. With `--json` standard output holds JSON for
programs and nothing else. Progress shows only where standard error is a terminal. `NO_COLOR` is respected.

Exit codes:

| code | means |
| --- | --- |
| 0 | done |
| 1 | the answer is no: expired, absent, not usable, a check failed, time over |
| 2 | wrong usage, input or settings |
| 3 | the file, the broker or the fleet cannot be reached or used |
| 70 | a bug; `MIROS_CACHE_DEBUG=1` adds the traceback to every error |
| 129 | ended by SIGHUP: the terminal is gone |
| 130 | interrupted by Ctrl-C |
| 141 | whoever read the output went away, as in `miros-cache-net read \\| head -1` |
| 143 | ended by SIGTERM |

`node` ends with 0 on Ctrl-C, SIGTERM and SIGHUP, `dev` and `view` on Ctrl-C: running until then is their job.

With `--json` an error is JSON too, on one line of standard error: `error` (the same words), `kind` (the class, as in
[](python.md)), `reason` (as `CACHE_ERROR` has it, "" for others) and `exit_code`. Notes stay lines of text.

The [glossary](../explanation/glossary.md)'s words are explained at the end of each `--help` that uses them.
`miros-cache-net completion` makes the shell complete commands, options, files, key ids, keys of the document, hosts and
nodes.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD.rstrip(), "", *_sections()])


def _sections() -> Iterator[str]:
    context = click.Context(root, info_name="miros-cache-net", **root.context_settings)
    for title, entries in SECTIONS.items():
        yield from (f"## {title}", "")
        for entry in entries:
            yield from _command(import_module(entry.module).command, entry.name, context)


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    words = context.command_path.removeprefix("miros-cache-net ")
    yield from (f"### {words}", "")
    yield from ("```text", " ".join([context.command_path, *command.collect_usage_pieces(context)]), "```", "")
    yield from _help(command.help or "")
    options = [_option(parameter) for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        yield from ("| option | does |", "| --- | --- |", *options, "")
    if isinstance(command, click.Group):
        for sub_name, each in command.commands.items():
            yield from _command(each, sub_name, context)


def _help(text: str) -> Iterator[str]:
    """Paragraphs as they are; what follows a line of \\b keeps its lines."""
    for block in inspect.cleandoc(text).split("\n\n"):
        if not block.startswith("\b"):
            yield from (block.replace("|", "\\|"), "")
            continue
        title, *lines = block.split("\n")[1:]
        yield from (
            title,
            "",
            "```sh" if title == "Examples:" else "```text",
            *inspect.cleandoc("\n".join(lines)).split("\n"),
            "```",
            "",
        )


def _option(option: click.Option) -> str:
    name = ", ".join(f"`{opt}`" for opt in option.opts)
    value = f" {option.metavar}" if option.metavar else ""
    default = f" (default {option.default})" if option.show_default else ""
    return f"| {name}{value} | {(option.help or '').replace('|', chr(92) + '|')}{default} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
