"""What is said about a setting: its row in the documentation, and the one line when it is wrong.  Layer 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from miros_cache_net.setting_sources import EnvironmentSource, TomlSource, env_of, nearest


class SettingDescription(NamedTuple):
    """A setting: field, names in the environment (the strongest first), default as text, meaning."""

    field: str
    env_names: tuple[str, ...]
    default: str
    description: str


def describe_field(name: str, field: FieldInfo) -> SettingDescription:
    """The row of one field of a settings class."""
    env = env_of(name, field)
    names = env.names or ()
    if env.from_file:
        names += tuple(f"{each}_FILE" for each in names)
    return SettingDescription(name, names, env.default_text or _as_text(field.default), field.description or "")


def _as_text(default: Any) -> str:
    if isinstance(default, SecretStr):
        return "**********"
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None or default == () else str(default)


def one_line(settings_cls: type[BaseSettings], details: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """The message for the first of pydantic's `details`: the setting's name, what is wrong, what helps."""
    name = str(details["loc"][0]) if details["loc"] else ""
    field = settings_cls.model_fields.get(name)
    if field is None:
        return f"unknown setting {name[:60]!r}; did you mean {nearest(name, settings_cls.model_fields)!r}?"
    env_name = next(iter(env_of(name, field).names or ()), name)
    problem = " ".join(details["msg"].removeprefix("Value error, ").replace("Input should", "must").split())
    example = f"; for example {env_name}={field.examples[0]}" if field.examples else ""
    return f"{_place(settings_cls, name, env_name, arguments)}: {problem}{example}"


def _place(settings_cls: type[BaseSettings], name: str, env_name: str, arguments: Mapping[str, Any]) -> str:
    if name in arguments:
        return f"{env_name} (argument {name})"
    for source in (EnvironmentSource(settings_cls), TomlSource(settings_cls)):
        if name in source() and name in source.origins:
            origin = source.origins[name]
            return origin if origin.isupper() else f"{env_name} ({origin})"
    return env_name
