"""A group of commands that imports a command only when it runs.

The command modules import what is slow to load (pydantic, pika, miros, cryptography) inside the functions that need it,
which halves the time of `COMMAND --help` and of the answer to a wrong option.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from miros_cache_net.cli.exits import Exit, PipeClosed
from miros_cache_net.cli.words import explain


class LazyCommand(NamedTuple):
    """A command that is not imported yet: its name, its module (which defines ``command``), one line of help."""

    name: str
    module: str
    summary: str


class LazyGroup(click.Group):
    """A `click.Group` over `LazyCommand`, listed in sections; help and completion of the list import no command."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[LazyCommand]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.sections = sections
        self._entries = {entry.name: entry for entries in sections.values() for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = import_module(entry.module).command
        explain(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        name = args[0]
        if name not in self._entries and not name.startswith("-"):
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise PipeClosed from None  # click would turn it into exit code 1

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self._entries))
        for title, entries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in entries])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(entry.name, help=entry.summary)
            for entry in self._entries.values()
            if entry.name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def help_if_bare(ctx: click.Context) -> int:
    """For a group's own function: called without a command, it shows its help and reports wrong usage."""
    if ctx.invoked_subcommand is not None:
        return Exit.DONE
    print(ctx.get_help())
    return Exit.USAGE
