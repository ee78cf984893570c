"""`miros-cache-net completion`."""

from __future__ import annotations

import click

from miros_cache_net.cli.exits import PROGRAM, Exit

#: click's name for the variable by which the shell asks.
_VARIABLE = "_MIROS_CACHE_NET_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> int:
    """Print the completion script of the shell for this command.

    Commands and options, files, ids of keys, keys of the document, hosts that were found, and nodes of the fleet are
    completed then.  Nothing is completed, and nothing is said, where the settings or the file cannot be read.

    \b
    Examples:
      eval "$(miros-cache-net completion bash)"       # in ~/.bashrc
      eval "$(miros-cache-net completion zsh)"        # in ~/.zshrc
      miros-cache-net completion fish | source        # in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    print(script(ctx.find_root().command, {}, PROGRAM, _VARIABLE).source())
    return Exit.DONE
