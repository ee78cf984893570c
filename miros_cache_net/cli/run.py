"""`miros-cache-net run`."""

from __future__ import annotations

import click


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("program", type=click.Path(dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(program: str, arguments: tuple[str, ...]) -> int:
    """Run an unchanged miros-rabbitmq program.

    Where PROGRAM imports miros_rabbitmq it finds this project's charts: same names, same printed lines, but a mesh that
    connects at once, heals and cannot be made to run what a message holds. Not one line of it changes. Its `.env` is
    read as the old package reads it; what stands behind PROGRAM is its own. It takes this process's place.

    \b
    Examples:
      miros-cache-net run ergotech.py
      miros-cache-net run ergotech.py alpha
    """
    from miros_cache_net.mesh.program import run

    run(program, arguments)
