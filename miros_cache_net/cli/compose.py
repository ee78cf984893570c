"""`miros-cache-net compose`: a fleet of one's own programs in containers."""

from __future__ import annotations

from pathlib import Path

import click

from miros_cache_net.cli.cache_file import count_text
from miros_cache_net.cli.completing import files
from miros_cache_net.cli.exits import Exit
from miros_cache_net.cli.host_names import HOST_NAMES, hosts_option
from miros_cache_net.cli.lazy import help_if_bare
from miros_cache_net.cli.output import print_line
from miros_cache_net.errors import SettingsError


@click.group("compose", invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]...")
@click.pass_context
def command(ctx: click.Context) -> int:
    """Write files for a fleet in containers.

    \b
    Examples:
      miros-cache-net compose init
    """
    return help_if_bare(ctx)


@command.command("init")
@hosts_option
@click.option("--program", metavar="FILE", shell_complete=files, help="A Python file here that builds a CacheNode.")
@click.option("--requirements", metavar="FILE", shell_complete=files, help="What the program needs, for pip.")
@click.option("--file", "file_name", metavar="NAME", default="cache.json", show_default=True, help="Its cache file.")
def init(count: int, program: str | None, requirements: str | None, file_name: str) -> int:
    """Write Compose's files for N hosts that run a program.

    In this directory: docker-compose.yml, and with --program a Dockerfile and .dockerignore. Each host runs the
    program, as an ordinary user without rights, with a cache file of its own; a RabbitMQ, its user, its password and
    the fleet's key are made at the first `docker compose up`. A host counts as healthy while its node is in step with
    the fleet. Without a program each host is a node. The image gets every Python file of this directory, and nothing
    else. Files that are there already are left alone.

    \b
    Examples:
      miros-cache-net compose init -n 5 --program my.py
      miros-cache-net compose init --program my.py --requirements requirements.txt
      miros-cache-net compose init -n 3 --program my.py --file peers.json
    """
    from miros_cache_net.testing.compose_files import ComposeFiles

    for option, given in (("--program", program), ("--requirements", requirements)):
        if given is not None and not Path(given).is_file():
            raise SettingsError(f"{option} {given!r}: there is no such file; name one of this directory")
    texts = ComposeFiles(HOST_NAMES[:count], program or "", requirements or "", file_name).texts()
    there = [name for name in texts if Path(name).exists()]
    if there:
        raise SettingsError(f"{', '.join(there)}: there already; move it away, or use another directory")
    for name, text in texts.items():
        Path(name).write_text(text, encoding="utf-8")
    print_line(f"made {', '.join(texts)} for {count_text(count, 'host')}; next: docker compose up --build")
    return Exit.DONE
