"""Makes settings, keys and routing keys from a networked chart's arguments; these override the environment."""

from __future__ import annotations

from typing import Final, NamedTuple

from miros_cache_net.errors import SettingsError
from miros_cache_net.settings import Settings
from miros_cache_net.settings.key_file import MAKE_ONE, NEW_MAKES_ONE, canonical_key
from miros_cache_net.settings.login import with_login

Key = str | bytes

#: The routing key of a chart that is given none: miros-rabbitmq's default.
NO_ROUTING_KEY: Final = "empty"
#: A bound, because old `.env` files set an hour, far too long to notice a cut cable; a link's own default is 10 s.
_LONGEST_HEARTBEAT_S: Final = 60
_ROUTING_KEY_BYTES: Final = 255
_MEND_KEY: Final = (
    "set MESH_ENCRYPTION_KEY to the key of the other programs, or make a key with `miros-cache-net key new`"
)


class Keys(NamedTuple):
    """The Fernet keys of the three networks."""

    mesh: bytes
    spy: bytes
    trace: bytes


class RoutingKeys(NamedTuple):
    """tx: the key to send with; rx: the pattern to receive, words with ``*`` and ``#``."""

    tx: str
    rx: str


def mesh_settings(given: Settings | None, user: str, password: str, key: Key | None) -> Settings:
    """The settings of a mesh; the arguments override the environment.

    Unless the settings specify trusted networks, this machine's own networks are trusted with the password, because a
    `miros-rabbitmq` mesh logs in at all their brokers.  Raises `SettingsError`.
    """
    if key:
        canonical_key(key, "mesh_encryption_key", _MEND_KEY)
    if given is None:
        arguments = {"rabbit_user": user or None, "rabbit_password": password or None, "keys": [key] if key else None}
        settings = Settings.load(**arguments)
    else:
        settings = with_login(given, user, password, key or "")
    update: dict[str, object] = {"heartbeat_s": min(settings.heartbeat_s or _LONGEST_HEARTBEAT_S, _LONGEST_HEARTBEAT_S)}
    if "trusted_networks" not in settings.model_fields_set:
        update["trust_own_subnets"] = True
    return settings.model_copy(update=update)


def keys_of(settings: Settings, spy: Key | None, trace: Key | None) -> Keys:
    """Each network's key: the argument, else the setting, else the mesh's.  Raises `SettingsError` for a bad key."""
    mesh = _mesh_key(settings)
    given = spy or settings.snoop_spy_key.get_secret_value(), trace or settings.snoop_trace_key.get_secret_value()
    names = "snoop_spy_encryption_key", "snoop_trace_encryption_key"
    spy_key, trace_key = (canonical_key(key, name) if key else mesh for key, name in zip(given, names, strict=True))
    return Keys(mesh, spy_key, trace_key)


def _mesh_key(settings: Settings) -> bytes:
    try:
        return settings.load_keys()[0]
    except SettingsError as error:
        mend = _MEND_KEY if error.mend in (MAKE_ONE, NEW_MAKES_ONE) else error.mend
        raise SettingsError(f"the mesh's key cannot be used: {error.what}", mend=mend) from None


def routing_keys_of(tx: str | None, rx: str | None) -> RoutingKeys:
    """`tx` None: `NO_ROUTING_KEY`; `rx` None: as `tx`.  Raises `SettingsError` for keys too long for AMQP."""
    sending = NO_ROUTING_KEY if tx is None else tx
    keys = RoutingKeys(sending, sending if rx is None else rx)
    for name, key in zip(("tx_routing_key", "rx_routing_key"), keys, strict=True):
        if len(key.encode("utf-8", "replace")) > _ROUTING_KEY_BYTES:
            raise SettingsError(f"{name} takes at most {_ROUTING_KEY_BYTES} bytes")
    return keys
