"""The package's loggers: one tree, named by room, and silent unless a program says where its log goes."""

from __future__ import annotations

import logging
from typing import Final

#: The root of all of them.  Without a handler of its own, Python would print warnings to standard error.
PACKAGE_LOG: Final = logging.getLogger("miros_cache_net")
PACKAGE_LOG.addHandler(logging.NullHandler())


def module_log(module: str) -> logging.Logger:
    """The logger of a module of this package, by its ``__name__``: below that of its room."""
    return logging.getLogger(module)


def chart_log(chart_class: type, name: str) -> logging.Logger:
    """The logger of a chart: below that of its class's room, or of ``statechart`` for a class of a user's program."""
    room = chart_class.__module__.split(".")[:2]
    if room[0] != PACKAGE_LOG.name:
        room = [PACKAGE_LOG.name, "statechart"]
    # a dot would make levels of their own
    return logging.getLogger(".".join([*room, name.replace(".", "_")]))
