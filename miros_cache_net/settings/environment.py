"""The one way to the environment, to `.env` and to the TOML file, all as plain text.

Whoever only wants to know where the cache file is pays for no more than this: what reads a file is loaded where
there is one.
"""

from __future__ import annotations

import os

from miros_cache_net.errors import SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

PREFIX: Final = "MIROS_CACHE_"
CONFIG_NAME: Final = "MIROS_CACHE_CONFIG"
LOCAL_CONFIG: Final = "miros-cache-net.toml"
_DOTENV: Final = ".env"


def text_of(setting: str) -> str | None:
    """A setting whose value is text, from the strongest source that has it; None where none has.

    The same sources in the same order as for `Settings`, beside its arguments.  Raises `SettingsError` where one of
    them cannot be read.
    """
    name = PREFIX + setting.upper()
    if here := variable(name):
        return here
    variables = environment()
    if text := variables.get(name):
        return _checked(text, name)
    path = config_path(variables)
    if path is None or (value := read_toml(path, variables).get(setting)) is None:
        return None
    return _checked(str(value), f"{name} ({setting} in {path})")


def variable(name: str) -> str:
    """What the process's own environment holds under `name`, "" if nothing; it costs nothing and cannot fail."""
    return os.environ.get(name, "")


def environment() -> dict[str, str]:
    """The variables that are set: the process's environment over `.env`.  Empty ones count as not set."""
    merged = _dotenv()
    merged.update((name, value) for name, value in os.environ.items() if value)
    return merged


def config_directory() -> str:
    """The user's directory of settings and keys."""
    base = variable("XDG_CONFIG_HOME")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.config"), "miros-cache-net")


def config_path(variables: Mapping[str, str]) -> str | None:
    """The TOML file: the one that MIROS_CACHE_CONFIG names, else ./miros-cache-net.toml, else the user's."""
    if named := variables.get(CONFIG_NAME):
        return os.path.expanduser(named)
    found = (LOCAL_CONFIG, os.path.join(config_directory(), "config.toml"))
    return next((path for path in found if os.path.exists(path)), None)


def read_toml(path: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """What the TOML file at `path` holds.  Raises `SettingsError`."""
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    hint = f"; {CONFIG_NAME} names it" if CONFIG_NAME in variables else ""
    try:
        with open(path, "rb") as file:
            values: dict[str, Any] = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {why_unread(error)}{hint}") from None
    except ValueError as error:  # not UTF-8 or no TOML
        raise SettingsError(f"{path} is no TOML: {' '.join(str(error).split())}{hint}") from None
    return values


def why_unread(error: Exception) -> str:
    """The reason in a few words."""
    return (isinstance(error, OSError) and error.strerror) or "it is not UTF-8"


def _dotenv() -> dict[str, str]:
    if not os.path.exists(_DOTENV):
        return {}
    from dotenv import dotenv_values

    try:
        variables = dotenv_values(_DOTENV)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env in the working directory cannot be read: {why_unread(error)}") from None
    return {name: value for name, value in variables.items() if value}


def _checked(text: str, where: str) -> str:
    """Files, unlike the environment, can hold what no path and no name may."""
    if not text or "\0" in text:
        raise SettingsError(f"{where}: must not be empty or hold a zero byte")
    return text
