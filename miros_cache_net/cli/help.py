"""`miros-cache-net help`."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from miros_cache_net.cli.exits import Exit


def _commands(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    group = ctx.find_root().command
    names = group.list_commands(ctx) if isinstance(group, click.Group) else []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command("help")
@click.argument("words", metavar="[COMMAND...]", nargs=-1, shell_complete=_commands)
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> int:
    """Show the help of a command, or of all.

    \b
    Examples:
      miros-cache-net help
      miros-cache-net help read
      miros-cache-net help key rotate
    """
    about = ctx.find_root()
    for word in words:
        group = about.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"`{about.command_path}` has no commands of its own", about)
        name, found, _rest = group.resolve_command(about, [word])
        assert found is not None
        about = click.Context(found, parent=about, info_name=name, **found.context_settings)
    print(about.get_help())
    return Exit.DONE
