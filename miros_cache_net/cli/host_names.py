"""The hosts of a fleet that a command makes: how many, and their names, the same everywhere."""

from __future__ import annotations

from typing import Final

import click

_LETTERS: Final = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu
nu xi omicron pi rho sigma tau upsilon phi chi psi omega
"""
HOST_NAMES: Final = tuple(_LETTERS.split())

hosts_option: Final = click.option(
    "-n",
    "--hosts",
    "count",
    type=click.IntRange(1, len(HOST_NAMES)),
    metavar="N",
    default=3,
    show_default=True,
    help=f"How many hosts, {len(HOST_NAMES)} at most.",
)
