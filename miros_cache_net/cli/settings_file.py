"""A settings file to begin with: every setting as a comment, with what it means."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from miros_cache_net.errors import SettingsError

_HEAD: Final = """\
# Settings of miros-cache-net.  Remove the `#` from a setting to change it.
#
# The file is read as ./miros-cache-net.toml (if it is yours, and nobody else may write it), as
# ~/.config/miros-cache-net/config.toml, and wherever MIROS_CACHE_CONFIG names it.  .env and the environment
# take precedence.  `miros-cache-net settings` shows the settings in force, and where each comes from.
# Keys do not belong here: `miros-cache-net key new` makes a file for them.
"""
#: Held by files that are no place for them, or not set by anybody.
_LEFT_OUT: Final = ("keys", "trust_own_subnets")


def template() -> str:
    """TOML that holds nothing but comments."""
    from miros_cache_net.settings import Settings

    parts = [_HEAD]
    for described in Settings.describe():
        if described.field not in _LEFT_OUT:
            parts.append("\n".join(_setting(described.field, described.description, described.env_names)))
    return "\n".join(parts)


def make(path: Path) -> None:
    """Write the template to a new file, closed to other users.  Raises `SettingsError` where that cannot be."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise SettingsError(f"{path} already exists; name another file, or - for standard output") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be made: {error.strerror}; name another file") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(template())


def _setting(name: str, meaning: str, variables: tuple[str, ...]) -> Iterator[str]:
    text = f"{meaning} In the environment: {', '.join(variables)}."
    yield from (f"# {line}" for line in textwrap.wrap(text, 100))
    yield f"# {name} = {_toml(_value(name))}"
    yield ""


def _value(name: str) -> Any:
    """The default, or where that is no value of its own, an example."""
    from miros_cache_net.settings import Settings

    field = Settings.model_fields[name]
    if isinstance(field.default, (bool, int, float)):
        return field.default
    for each in (*(field.examples or ()), field.default):
        if isinstance(each, str) and each:
            return each
    return "amqp://broker.example" if name == "amqp_urls" else ""


def _toml(value: Any) -> str:
    # a JSON string is a basic string of TOML too
    return json.dumps(value, ensure_ascii=False)
