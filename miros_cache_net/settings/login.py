"""Settings with a program's own login in place of the one from files and the environment."""

from __future__ import annotations

from dataclasses import replace

from miros_cache_net.settings.broker_address import BrokerAddress, Secret
from miros_cache_net.settings.key_file import canonical_key
from miros_cache_net.settings.model import Settings


def with_login(settings: Settings, user: str, password: str, key: str | bytes) -> Settings:
    """`settings` with another user, password and key; brokers whose URLs name a login of their own keep it.

    An empty `user`, `password` or `key` counts as not given.  Raises `SettingsError` if `key` is not a key.
    """
    user = user or settings.rabbit_user
    password = password or settings.rabbit_password.get_secret_value()
    secret = type(settings.rabbit_password)
    keys = settings.keys
    if key:
        keys = (secret(canonical_key(key, "mesh_encryption_key").decode()),)

    def told(broker: BrokerAddress) -> BrokerAddress:
        own_user = "" if broker.user == settings.rabbit_user else broker.user
        own_password = broker.password
        if own_password.reveal() == settings.rabbit_password.get_secret_value():
            own_password = Secret()
        return replace(broker, user=own_user, password=own_password).with_credentials(user, password)

    return settings.model_copy(
        update={
            "rabbit_user": user,
            "rabbit_password": secret(password),
            "amqp_urls": tuple(map(told, settings.amqp_urls)),
            "keys": keys,
        }
    )
