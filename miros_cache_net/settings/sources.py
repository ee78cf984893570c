"""Which source gives which setting, and the texts about a setting: its row in the docs, its error message."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from miros_cache_net.errors import SettingsError
from miros_cache_net.logs import module_log
from miros_cache_net.settings.environment import PREFIX, config_path, environment, read_toml
from miros_cache_net.settings.known_names import warn_of_unknown
from miros_cache_net.settings.settings_file import why_unread

#: The form that Kubernetes and Docker links use for a service called `rabbit`: RABBIT_PORT=tcp://10.96.3.4:5672
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://\S+:\d+")

log = module_log(__name__)
_said: Final = set[str]()


@dataclass(frozen=True)
class Env:
    """A field's names in the environment, the strongest first; () if it has none.

    from_file     each name + ``_FILE`` names a file that contains the value
    default_text  the default for the documentation, if it differs between machines
    """

    names: tuple[str, ...] | None = None
    from_file: bool = False
    default_text: str = ""


def env_of(name: str, field: FieldInfo) -> Env:
    """The field's `Env`, completed with the name that the naming rule gives."""
    env = next((item for item in field.metadata if isinstance(item, Env)), Env())
    names = (PREFIX + name.upper(),) if env.names is None else env.names
    return Env(names, env.from_file, env.default_text)


def one_key_source(values: dict[str, Any]) -> dict[str, Any]:
    """`values` of one source; if it names a key file and no keys, it overrides the keys of weaker sources."""
    return {"keys": (), **values} if "keys_file" in values and "keys" not in values else values


class Source(PydanticBaseSettingsSource):
    """One tier of settings; `origins` says where each field's value was found, for error messages."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.origins: dict[str, str] = {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("a source gives all its values at once")


class EnvironmentSource(Source):
    """The environment, and below it the file `.env` of the working directory.  Empty variables count as not set.

    An unknown variable with our prefix is logged once: it may belong to another release, or be misspelt.
    """

    def __call__(self) -> dict[str, Any]:
        variables = environment()
        warn_of_unknown(variables)
        values: dict[str, Any] = {}
        for field_name, field in self.settings_cls.model_fields.items():
            self._find(field_name, env_of(field_name, field), variables, values)
        if "MIROS_CACHE_KEYS_FILE" in variables and self.origins.get("keys") == "MESH_ENCRYPTION_KEY":
            del values["keys"]  # a new name takes precedence over any old one
        return one_key_source(values)

    def _find(self, field_name: str, env: Env, variables: Mapping[str, str], values: dict[str, Any]) -> None:
        for name in env.names or ():
            if name in variables and not _is_service_link(name, variables[name]):
                values[field_name], self.origins[field_name] = variables[name], name
                return
            if env.from_file and f"{name}_FILE" in variables:
                self.origins[field_name] = f"{name}_FILE"
                values[field_name] = _read_value(f"{name}_FILE", variables[f"{name}_FILE"])
                return


class TomlSource(Source):
    """The TOML file, if there is one.  Raises `SettingsError`."""

    def __call__(self) -> dict[str, Any]:
        variables = environment()
        path = config_path(variables)
        if path is None:
            return {}
        values = read_toml(path, variables)
        for key in values:
            if key not in self.settings_cls.model_fields:
                close = nearest(key, self.settings_cls.model_fields)
                raise SettingsError(f"{path}: unknown key {key[:60]!r}; did you mean {close!r}?")
            self.origins[key] = f"{key} in {path}"
        return one_key_source(values)


def nearest(word: str, known: Mapping[str, Any]) -> str:
    """The name in `known` that is most similar to `word`, which may have the environment's spelling."""
    plain = word.lower().removeprefix(PREFIX.lower())
    return difflib.get_close_matches(plain, list(known), n=1, cutoff=0.0)[0]


def _is_service_link(name: str, text: str) -> bool:
    if not (name.endswith("_PORT") and _SERVICE_LINK.fullmatch(text)):
        return False
    if name not in _said:
        _said.add(name)
        log.warning("%s=%s comes from a container's service link, is not a port, and is ignored", name, text[:80])
    return True


def _read_value(name: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8-sig").strip()  # editors of Windows write byte order marks
    except (OSError, UnicodeDecodeError, RuntimeError, ValueError) as error:
        raise SettingsError(f"{name}: the file {path!r} that it names cannot be read: {why_unread(error)}") from None


# --- the texts about a setting ---------------------------------------------------------------------------


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
        return "**********" if default.get_secret_value() else ""
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None or default == () else str(default)


def one_line(settings_cls: type[BaseSettings], details: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """The message for pydantic's `details` of one error: the setting's name, the problem, the remedy."""
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
