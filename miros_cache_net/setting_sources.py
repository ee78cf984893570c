"""Where settings come from beside arguments: which of them `.env`, the environment and the TOML file give.  Layer 1."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from miros_cache_net.errors import SettingsError
from miros_cache_net.setting_files import CONFIG_NAME, PREFIX, config_path, environment, read_toml, why_unread

#: Read elsewhere.
_OTHER_NAMES: Final = frozenset({CONFIG_NAME, "MIROS_CACHE_DEBUG"})

log = logging.getLogger(__name__)
_said: Final = set[str]()


@dataclass(frozen=True)
class Env:
    """A field's names in the environment, the strongest first; () if it has none.

    from_file     each name + ``_FILE`` names a file to read the value from
    default_text  the default for documentation, where it differs from machine to machine
    """

    names: tuple[str, ...] | None = None
    from_file: bool = False
    default_text: str = ""


def env_of(name: str, field: FieldInfo) -> Env:
    """The field's `Env`, completed with its name by rule."""
    env = next((item for item in field.metadata if isinstance(item, Env)), Env())
    names = (PREFIX + name.upper(),) if env.names is None else env.names
    return Env(names, env.from_file, env.default_text)


def one_key_source(values: dict[str, Any]) -> dict[str, Any]:
    """A source that names a key file and no keys overrules the keys of weaker sources."""
    return {"keys": (), **values} if "keys_file" in values and "keys" not in values else values


class Source(PydanticBaseSettingsSource):
    """One tier of settings; `origins` tells where each field's value was found, for error messages."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.origins: dict[str, str] = {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("a source gives all its values at once")


class EnvironmentSource(Source):
    """The environment, and below it the file `.env` of the working directory.  Empty variables count as not set.

    One that is named like ours and is none is said in the log, once: it may be of another release, or misspelt.
    """

    def __call__(self) -> dict[str, Any]:
        variables = environment()
        self._say_unknown(variables)
        values: dict[str, Any] = {}
        for field_name, field in self.settings_cls.model_fields.items():
            self._find(field_name, env_of(field_name, field), variables, values)
        if "MIROS_CACHE_KEYS_FILE" in variables and self.origins.get("keys") == "MESH_ENCRYPTION_KEY":
            del values["keys"]  # a new name is stronger than any old one
        return one_key_source(values)

    def _say_unknown(self, variables: Mapping[str, str]) -> None:
        ours = [name for name in variables if name.startswith(PREFIX) and name not in _OTHER_NAMES | _said]
        if not ours:
            return
        envs = [env_of(name, field) for name, field in self.settings_cls.model_fields.items()]
        known = {name + end for env in envs for name in env.names or () for end in ("", "_FILE" * env.from_file)}
        for name in sorted(set(ours) - known):
            _said.add(name)
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
            log.warning("%s is no setting and is passed over; did you mean %s?", name[:60], close)

    def _find(self, field_name: str, env: Env, variables: Mapping[str, str], values: dict[str, Any]) -> None:
        for name in env.names or ():
            if name in variables:
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
    """The name in `known` that looks most like `word`, be it in the environment's spelling."""
    plain = word.lower().removeprefix(PREFIX.lower())
    return difflib.get_close_matches(plain, list(known), n=1, cutoff=0.0)[0]


def _read_value(name: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError, ValueError) as error:
        raise SettingsError(f"{name}: the file {path!r} that it names cannot be read: {why_unread(error)}") from None
