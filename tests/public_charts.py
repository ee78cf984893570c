"""The charts that a user may build: what the package names, whoever adds one."""

from __future__ import annotations

import miros_cache_net
from miros_cache_net.statechart.chart import Chart


def public_charts() -> list[type[Chart]]:
    """Each once, whatever further names it has."""
    named = (getattr(miros_cache_net, name) for name in miros_cache_net.__all__)
    return list(dict.fromkeys(each for each in named if isinstance(each, type) and issubclass(each, Chart)))
