"""The one way to the environment, to `.env` and to the TOML file, all as plain text.

A program that only needs the path of the cache file pays for nothing else: a parser is imported only if its file
exists.
"""

from __future__ import annotations

import os
import sys

from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.settings_file import read_found, read_named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

PREFIX: Final = "MIROS_CACHE_"
CONFIG_NAME: Final = "MIROS_CACHE_CONFIG"
ENV_FILE_NAME: Final = "MIROS_CACHE_ENV_FILE"
LOCAL_CONFIG: Final = "miros-cache-net.toml"
DOTENV: Final = ".env"
_OUR_NAMES: Final = (PREFIX, "RABBIT_", "CONNECTION_ATTEMPTS", "MESH_ENCRYPTION_KEY", "SNOOP_")


def text_of(setting: str) -> str | None:
    """A setting whose value is text, from the strongest source that has it; None if none has.

    The sources and their order are those of `Settings`, without its arguments.  Raises `SettingsError` if a source
    cannot be read.
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
    """The variable `name` of the process's own environment, "" if it is not set; cheap, and cannot fail."""
    return os.environ.get(name, "")


def own_variables() -> dict[str, str]:
    """The variables of the process's own environment.  Empty ones count as not set."""
    return {name: value for name, value in os.environ.items() if value}


def environment() -> dict[str, str]:
    """The variables that are set: the process's environment over `.env`.  Empty ones count as not set."""
    return {**_dotenv(), **own_variables()}


def only_found(name: str) -> bool:
    """Whether the variable `name` can come only from a `.env` that the user has not named."""
    return not variable(name) and not variable(ENV_FILE_NAME)


def config_directory() -> str | None:
    """The user's directory of settings and keys; None if there is no home directory."""
    base = variable("XDG_CONFIG_HOME")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.config")
    return os.path.join(base, "miros-cache-net") if os.path.isabs(base) else None


def config_path(variables: Mapping[str, str]) -> str | None:
    """The TOML file: the one that MIROS_CACHE_CONFIG names, else ./miros-cache-net.toml, else the user's.

    Raises `SettingsError` for a local one that neither the user nor root owns.
    """
    if named := variables.get(CONFIG_NAME):
        return os.path.expanduser(named)
    if _found_toml() is not None:
        return LOCAL_CONFIG
    directory = config_directory()
    users = directory and os.path.join(directory, "config.toml")
    return users if users and os.path.exists(users) else None


def config_is_found(path: str, variables: Mapping[str, str]) -> bool:
    """Whether the TOML file at `path` was found, or is named only by a found file."""
    return only_found(CONFIG_NAME) if variables.get(CONFIG_NAME) else path == LOCAL_CONFIG


def read_toml(path: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """The values in the TOML file at `path`.  Raises `SettingsError`."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    hint = f"; {CONFIG_NAME} names it" if CONFIG_NAME in variables else ""
    text = read_named(path, hint) if variables.get(CONFIG_NAME) or path != LOCAL_CONFIG else _found_toml() or ""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise SettingsError(f"{path} is not TOML: {' '.join(str(error).split())}{hint}") from None
    return values


def _found_toml() -> str | None:
    found = read_found(LOCAL_CONFIG)
    if found is None:
        return None
    text, distrust = found
    if distrust and text.strip():
        raise SettingsError(_untrusted(LOCAL_CONFIG, distrust, CONFIG_NAME))
    return None if distrust else text


def _dotenv() -> dict[str, str]:
    if named := variable(ENV_FILE_NAME):
        return _parsed(read_named(os.path.expanduser(named), f"; {ENV_FILE_NAME} names it"))
    found = read_found(DOTENV)
    if found is None:
        return {}
    text, distrust = found
    variables = _parsed(text)
    if not distrust:
        return variables
    if any(name.startswith(_OUR_NAMES) for name in variables):
        raise SettingsError(_untrusted(DOTENV, distrust, ENV_FILE_NAME))
    return {}


def _parsed(text: str) -> dict[str, str]:
    import io

    from dotenv import dotenv_values

    # No interpolation: a password may contain ${...}, and a found file must not read other variables.
    variables = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in variables.items() if value}


def _untrusted(path: str, distrust: str, naming: str) -> str:
    return (
        f"{path} in the working directory {distrust}, so its settings may be somebody else's; `chown` it to yourself "
        f"and `chmod go-w` it, or, if you trust it, name it: {naming}={path}"
    )


def _checked(text: str, where: str) -> str:
    """Files, unlike the environment, can contain text that no path or name may have."""
    if not text or "\0" in text:
        raise SettingsError(f"{where}: must not be empty or contain a zero byte")
    return text
