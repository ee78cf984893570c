"""`discovered_once`: shares one result of a slow function with all its callers."""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, overload

from miros_cache_net.cache import Cache
from miros_cache_net.document.layout import TIME_OUT_KEY
from miros_cache_net.errors import DiscoveryTimeout, PayloadError, StoreError
from miros_cache_net.logs import module_log

if TYPE_CHECKING:
    from miros_cache_net.async_cache import AsyncCache

log = module_log(__name__)

Contents = Mapping[str, Any]
_GATHERING: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Discovered(Protocol):
    """A function decorated with `discovered_once`."""

    @property
    def cache(self) -> Cache:
        """The cache that holds the result."""

    def __call__(self, *, force: bool = False, timeout_s: float | None = None) -> Contents:
        """The result; `force` and `timeout_s` as for `Cache.get_or_discover`."""


class AsyncDiscovered(Protocol):
    """An ``async`` function decorated with `discovered_once`."""

    @property
    def cache(self) -> AsyncCache:
        """The cache that holds the result."""

    def __call__(self, *, force: bool = False, timeout_s: float | None = None) -> Coroutine[Any, Any, Contents]:
        """The result; `force` and `timeout_s` as for `AsyncCache.get_or_discover`."""


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[[], Awaitable[Contents]]) -> AsyncDiscovered: ...
    @overload
    def __call__(self, function: Callable[[], Contents]) -> Discovered: ...


def discovered_once(file_path: str | os.PathLike[str], *, minutes: float | None = None) -> _Decorator:
    """Decorator: call a slow function once, for all programs and hosts that share the cache file.

        @discovered_once("printers.json", minutes=60)
        def printers():
            return {"printers": slow_search()}

    ``printers()`` returns the function's result, whichever program obtained it, while that is young; it calls
    `Cache.get_or_discover`.  ``printers(force=True)`` calls the function now.  ``printers.cache`` is the `Cache`, for
    the result's age, its changes and `close`.  An ``async`` function is awaited as before, and has an `AsyncCache`.

    file_path  the cache file, a separate one for each function
    minutes    how long a result is young; None: the result's ``time_out_in_minutes``, without one forever

    The function takes no arguments and returns a mapping that JSON can represent.  The result is immutable and shared.
    The function's exceptions reach its caller, and the next caller tries.  Raises `DiscoveryRecursion` if the function
    calls itself.  If the file cannot be used (no directory, no permission), the function is called each time: a
    `RuntimeWarning` says why, and the log says it each time.
    """
    path = os.path.abspath(file_path)

    def decorate(function: Callable[[], Any]) -> Any:
        _refuse_wrong_use(function, minutes)
        if inspect.iscoroutinefunction(function):
            from miros_cache_net.async_cache import AsyncCache

            return _wrapped_async(function, AsyncCache(path), minutes)
        return _wrapped(function, Cache(path), minutes)

    return decorate


def _wrapped(function: Callable[[], Contents], cache: Cache, minutes: float | None) -> Any:
    @functools.wraps(function)
    def discovered(*, force: bool = False, timeout_s: float | None = None) -> Contents:
        run = _Run(minutes)

        def discovery() -> Contents:
            run.has_begun = True
            return run.found(function())

        try:
            return _without_time_out(cache.get_or_discover(discovery, timeout_s, force=force).dict, minutes)
        except StoreError as error:
            run.rescue(error)
        return function() if run.result is None else run.result

    discovered.cache = cache  # type: ignore[attr-defined]
    return discovered


def _wrapped_async(function: Callable[[], Awaitable[Contents]], cache: AsyncCache, minutes: float | None) -> Any:
    @functools.wraps(function)
    async def discovered(*, force: bool = False, timeout_s: float | None = None) -> Contents:
        run = _Run(minutes)

        async def discovery() -> Contents:
            run.has_begun = True
            return run.found(await function())

        try:
            payload = await cache.get_or_discover(discovery, timeout_s, force=force)
            return _without_time_out(payload.dict, minutes)
        except StoreError as error:
            run.rescue(error)
        return await function() if run.result is None else run.result

    discovered.cache = cache  # type: ignore[attr-defined]
    return discovered


class _Run:
    """One call of the function; its progress determines what an error of the file means."""

    def __init__(self, minutes: float | None) -> None:
        self._minutes = minutes
        self.has_begun = False
        self.result: Contents | None = None

    def found(self, result: Contents) -> Contents:
        """Record `result`; returns the contents to store, including the decorator's time-out if there is one."""
        self.result = result
        timed = self._minutes is not None and isinstance(result, Mapping)
        return {**result, TIME_OUT_KEY: self._minutes} if timed else result

    def rescue(self, error: StoreError) -> None:
        """Warn and return if only the file failed; else raise `error`, which the caller must see."""
        if isinstance(error, DiscoveryTimeout) or (self.has_begun and self.result is None):
            raise error
        log.warning("the result is not shared: %s", error)
        # also as a Python warning, which a program without a log shows, once for each place
        warnings.warn(f"the result of @discovered_once is not shared: {error}", RuntimeWarning, stacklevel=3)


def _without_time_out(contents: Contents, minutes: float | None) -> Contents:
    """The function's result, without the time-out that the decorator added."""
    if minutes is None:
        return contents
    return {key: value for key, value in contents.items() if key != TIME_OUT_KEY}


def _refuse_wrong_use(function: Callable[..., Any], minutes: object) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function):
        raise PayloadError(f"{name} is no function: write @discovered_once(FILE) above a `def`")
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not minutes >= 0):
        raise PayloadError(f"minutes={minutes!r}: it is a number, 0 or more, or None")
    parameters = inspect.signature(function).parameters.values()
    wanted = [each.name for each in parameters if each.default is each.empty and each.kind not in _GATHERING]
    if wanted:
        raise PayloadError(
            f"{name} takes {', '.join(wanted)}: one file holds one result, so wrap a call without arguments"
        )
