"""Recognizes a function that runs inside exclusive access: if it asked for that access, it would wait for itself.

The calls are kept in a context variable, so that a task, and a thread that an event loop starts for one, count as their
starter.  A call by another thread for which the function waits cannot be recognized.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from miros_cache_net.errors import ModifyRecursion


class _Call:
    """A running function that has exclusive access to the document at `path`, through `owner`."""

    def __init__(self, path: Path, owner: object) -> None:
        self.path, self.owner = path, owner
        # Tasks that the function started keep their copy of the context after its end.
        self.is_over = False


_calls: ContextVar[tuple[_Call, ...]] = ContextVar("calls inside exclusive access", default=())


@contextlib.contextmanager
def inside(path: Path, owner: object) -> Iterator[None]:
    """The block runs a user's function with exclusive access to `path`; `owner` serves no other call meanwhile."""
    call = _Call(path, owner)
    token = _calls.set((*_calls.get(), call))
    try:
        yield
    finally:
        call.is_over = True
        _calls.reset(token)


def refuse_inside(path: Path, owner: object = None) -> None:
    """Raise `ModifyRecursion` if the caller runs inside exclusive access to `path`; given `owner`, only if through it.

    `path`: absolute, with the links in its directory resolved, as `settings.which_file.cache_path` returns it.
    """
    if any(call.path == path and owner in (None, call.owner) and not call.is_over for call in _calls.get()):
        raise ModifyRecursion(
            f"{path}: the function given to `modify` uses the document that it is changing, and would wait for itself",
            mend="have it return the new contents instead",
        )
