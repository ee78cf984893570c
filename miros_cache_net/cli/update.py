"""`miros-cache-net update`."""

from __future__ import annotations

import click

from miros_cache_net.cli.cache_file import file_option, json_option
from miros_cache_net.cli.changing import change
from miros_cache_net.cli.completing import assignments as assignments_of
from miros_cache_net.cli.completing import document_keys
from miros_cache_net.cli.json_input import assignments


@click.command("update")
@click.argument("changes", metavar="[KEY=JSON ...]", nargs=-1, shell_complete=assignments_of)
@click.option(
    "--delete",
    "gone",
    metavar="KEY",
    multiple=True,
    shell_complete=document_keys,
    help="Remove this key; may be given several times.",
)
@file_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, changes: tuple[str, ...], gone: tuple[str, ...], file_path: str | None, as_json: bool
) -> int:
    """Change single keys of the document.

    Other keys stay, including those that other programs change meanwhile.  The document does not become younger.
    The value is JSON, so text is quoted twice: once for JSON, once for the shell.

    \b
    Examples:
      miros-cache-net update time_out_in_minutes=60
      miros-cache-net update 'site="lab"' 'hosts=["10.0.0.2", "10.0.0.3"]'
      miros-cache-net update --delete site
    """
    if not changes and not gone:
        raise click.UsageError("nothing to change: give KEY=JSON, or --delete KEY", ctx)
    values = assignments(changes)
    return change(file_path, as_json, lambda cache: cache.update(values, gone))
