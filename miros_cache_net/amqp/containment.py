"""Exceptions of callbacks end here: logged once each, never on to the thread that called."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

_LOG = logging.getLogger(__name__)


class Containment:
    """Calls what may raise.  The same fault at the same place is logged once in its life."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged: set[tuple[str, type[BaseException]]] = set()

    def call(self, function: Callable[..., Any], *args: Any) -> bool:
        """Call it; False if it raised."""
        try:
            function(*args)
        except Exception as error:
            self.report(getattr(function, "__qualname__", repr(function)), error)
            return False
        return True

    def report(self, where: str, error: BaseException) -> None:
        """Log `error`, the first time it comes from `where`."""
        key = (where, type(error))
        if key not in self._logged:
            self._logged.add(key)
            _LOG.error("%s: %s raised, contained (logged once)", self._name, where, exc_info=error)
