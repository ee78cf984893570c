"""Limits on found settings files: a cloned repository may contain a stranger's file.

Found files are the `.env` and the TOML file of the working directory, unless the user has named them.  A password or
key from elsewhere is not sent where only a found file directs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.environment import (
    CONFIG_NAME,
    DOTENV,
    ENV_FILE_NAME,
    config_is_found,
    config_path,
    environment,
    only_found,
)
from miros_cache_net.settings.networks import LOOPBACK, own_networks
from miros_cache_net.settings.parsing import AUTO
from miros_cache_net.settings.sources import EnvironmentSource, TomlSource

if TYPE_CHECKING:
    from miros_cache_net.settings.broker_address import BrokerAddress
    from miros_cache_net.settings.model import Settings

#: RabbitMQ's well-known default; not a secret.
DEFAULT_PASSWORD: Final = "guest"


class Found(NamedTuple):
    """Where a value was found: the variable or key, and the file."""

    name: str
    path: str

    @property
    def is_reference(self) -> bool:
        """The file only names the file that contains the value."""
        return self.name.endswith("_FILE")

    def refusal(self, secret: str) -> str:
        """The message for a secret that only this origin would send away, with the remedy."""
        naming = ENV_FILE_NAME if self.path == DOTENV else CONFIG_NAME
        return (
            f"{secret} comes from elsewhere, and only a file in the working directory says where it goes or what "
            f"guards it ({self.name} in {self.path}); if you trust that file, name it: {naming}={self.path}; or set "
            "this in the environment"
        )


def check_secrets(settings: Settings, arguments: Mapping[str, Any]) -> str:
    """Why the keys may not be used, "" if they may; `arguments` are the settings given in code.

    Raises `SettingsError` if only a found file would send a password from elsewhere to a broker, or unprotected.
    """
    found = _found_fields(type(settings), arguments)
    strangers = _strangers(settings, found)
    secrets = [broker for broker in settings.amqp_urls if _has_own_password(settings, broker, found)]
    if strangers and any(broker.password.reveal() == _password(settings) for broker in secrets):
        raise SettingsError(found["amqp_urls"].refusal("the password"))
    if secrets and (field := next((field for field in _leading_away(settings) if field in found), None)):
        raise SettingsError(found[field].refusal("the password"))
    own_keys = "keys" not in found or not settings.keys
    return found["amqp_urls"].refusal("the key") if own_keys and strangers else ""


def _found_fields(settings_cls: type[Settings], arguments: Mapping[str, Any]) -> dict[str, Found]:
    """The fields whose values come only from a found file."""
    variables, strongest = environment(), EnvironmentSource(settings_cls)
    strongest()
    found = {field: Found(name, DOTENV) for field, name in strongest.origins.items() if only_found(name)}
    path = config_path(variables)
    if path is not None and config_is_found(path, variables):
        toml = TomlSource(settings_cls)
        toml()
        found |= {field: Found(field, path) for field in toml.origins if field not in strongest.origins}
    return {field: origin for field, origin in found.items() if field not in arguments}


def _leading_away(settings: Settings) -> list[str]:
    """The settings, other than the brokers, whose values let a password reach more hosts than the defaults do."""
    leading = {
        "trusted_networks": settings.trust_own_subnets or set(settings.trusted_networks) - set(LOOPBACK),
        "trust_own_subnets": settings.trust_own_subnets,
        "tls_verify": not settings.tls_verify,
        "tls_ca_file": settings.tls_ca_file,
        "discover": set(settings.discover) - {AUTO},
        "hosts_file": settings.hosts_file,
    }
    return [field for field, leads in leading.items() if leads]


def _strangers(settings: Settings, found: Mapping[str, Found]) -> list[BrokerAddress]:
    """Brokers that only a found file names, outside loopback and the networks that another source trusts."""
    if "amqp_urls" not in found:
        return []
    trusted = LOOPBACK if "trusted_networks" in found else settings.trusted_networks
    if settings.trust_own_subnets and not {"trusted_networks", "trust_own_subnets"} & set(found):
        trusted += own_networks()
    return [broker for broker in settings.amqp_urls if not broker.is_within(trusted)]


def _has_own_password(settings: Settings, broker: BrokerAddress, found: Mapping[str, Found]) -> bool:
    """Whether the broker's password is a secret that no found file contains."""
    password = broker.password.reveal()
    origin = found.get("rabbit_password" if password == _password(settings) else "amqp_urls")
    return password not in ("", DEFAULT_PASSWORD) and (origin is None or origin.is_reference)


def _password(settings: Settings) -> str:
    return settings.rabbit_password.get_secret_value()
