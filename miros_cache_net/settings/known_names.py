"""Which variables are settings?  Warns of others with our prefix, without loading `Settings`."""

from __future__ import annotations

from miros_cache_net.settings.environment import PREFIX, environment, own_variables, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

#: The names without the prefix.  A test compares them with `Settings`, whose import takes longer than all of `read`.
_NAMES: Final = (
    "AMQP_URL",
    "AMQP_URL_FILE",
    "ANSWER_TIMEOUT_S",
    "CONFIG",
    "CONNECTION_ATTEMPTS",
    "DEBUG",
    "DIGEST_INTERVAL_S",
    "DISCOVER",
    "DOCUMENT",
    "ENV_FILE",
    "EXCHANGE",
    "EXTERNAL_LOGIN",
    "FILE",
    "HEARTBEAT_S",
    "HOSTS_FILE",
    "KEYS",
    "KEYS_FILE",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "MESH",
    "MESH_RX_ROUTING_KEY",
    "MESH_SENDER",
    "MESH_TOKEN_AGE_S",
    "MESH_TX_ROUTING_KEY",
    "NODE_NAME",
    "SCOPE",
    "SCOUT_TIMEOUT_S",
    "SITE",
    "SWEEP_PREFIX",
    "TAKE_OVER_AFTER_S",
    "TIME_OUT_IN_MINUTES",
    "TLS_CA_FILE",
    "TLS_CERTIFICATE_FILE",
    "TLS_KEY_FILE",
    "TLS_VERIFY",
    "TRUSTED_NETWORKS",
)
#: Settings that go by a name without the prefix, those of `miros-rabbitmq`; somebody may add the prefix.
_OLD_NAMES: Final = (
    "CONNECTION_ATTEMPTS",
    "MESH_ENCRYPTION_KEY",
    "MESH_ENCRYPTION_KEY_FILE",
    "RABBIT_HEARTBEAT_INTERVAL",
    "RABBIT_PASSWORD",
    "RABBIT_PASSWORD_FILE",
    "RABBIT_PORT",
    "RABBIT_USER",
    "SNOOP_SPY_ENCRYPTION_KEY",
    "SNOOP_SPY_ENCRYPTION_KEY_FILE",
    "SNOOP_TRACE_ENCRYPTION_KEY",
    "SNOOP_TRACE_ENCRYPTION_KEY_FILE",
)
KNOWN_NAMES: Final = frozenset([*(PREFIX + name for name in _NAMES), *_OLD_NAMES])
_warned: Final = set[str]()


def unknown_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with our prefix that are not settings, each with the most similar name of a setting."""
    unknown = sorted(name for name in variables if name.startswith(PREFIX) and name not in KNOWN_NAMES)
    if not unknown:
        return {}
    import difflib

    return {name: difflib.get_close_matches(name, sorted(KNOWN_NAMES), n=1, cutoff=0.0)[0] for name in unknown}


def warn_of_unknown(variables: Mapping[str, str]) -> None:
    """Log each unknown variable once: it may belong to another release, or be misspelt."""
    for name, close in unknown_variables(variables).items():
        if name not in _warned:
            _warned.add(name)
            from miros_cache_net.logs import module_log

            module_log(__name__).warning("%s is not a setting and is ignored; did you mean %s?", name[:60], close)


def warn_where_file_is_named(file_path: str | None) -> None:
    """The same for a command that reads no setting but the file: it reads `.env` only to find the file's name.

    Raises `SettingsError` if that `.env` cannot be read.
    """
    is_named = file_path is not None or variable(PREFIX + "FILE")
    warn_of_unknown(own_variables() if is_named else environment())
