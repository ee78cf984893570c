"""Names for the hosts of a fleet that a command makes, the same everywhere."""

from __future__ import annotations

from typing import Final

_LETTERS: Final = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu
nu xi omicron pi rho sigma tau upsilon phi chi psi omega
"""
HOST_NAMES: Final = tuple(_LETTERS.split())
