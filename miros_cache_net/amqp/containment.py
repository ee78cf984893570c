"""Contains exceptions of callbacks: logged once each, never passed to the caller.  Also disarms callbacks once over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

_LOG = logging.getLogger(__name__)


class Containment:
    """Calls functions that may raise.  Logs each exception type once per function."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged: set[tuple[str, type[BaseException]]] = set()

    def call(self, function: Callable[..., Any], *args: Any) -> bool:
        """Call `function`; False if it raised."""
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


class Guarded:
    """Base of objects that end once: from then on the callbacks they have handed out do nothing."""

    def __init__(self, containment: Containment) -> None:
        self._containment = containment
        self._over = False

    @property
    def over(self) -> bool:
        return self._over

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap `function`: a no-op once this is over; an exception is contained and ends this object only."""

        def guarded(*args: Any) -> None:
            if self._over:
                return
            try:
                function(*args)
            except Exception as error:
                self._containment.report(function.__qualname__, error)
                self.lost(error)

        return guarded

    def lost(self, cause: BaseException) -> None:
        """This object has failed because of `cause`."""
        raise NotImplementedError
