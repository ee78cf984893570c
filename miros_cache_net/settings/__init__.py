"""What has this user set, and what are this machine's values for the rest?

In come arguments, the environment, `.env`, a TOML file, key files, and the system's network interfaces.  Out come one
frozen `Settings`, and single answers for programs that need no more: which cache file, which keys, which broker, which
networks.  This room does not know how the answers are used: no document, no link, no chart, no command.

    model           `Settings`: every setting with its type, default and bounds
    sources         which source gives which setting, and the message for a wrong one
    environment     the one way to the environment, `.env` and the TOML file; loads no parser if there is no file
    settings_file   whether a settings file is trusted, and its text
    parsing         how the text of a setting becomes its value
    known_names     which variables are settings, and warnings of the others
    which_file      where the cache file is
    login           settings with another user, password and key
    key_file        keys as text, and the key file
    broker_address  one AMQP URL as a value
    networks        the addresses and networks of this machine

A program that only reads the file needs `which_file` and `environment`, so neither they nor this file import pydantic;
`Settings` is imported on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from miros_cache_net.settings.model import Settings

__all__ = ["Settings"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from miros_cache_net.settings import model

    globals()[name] = model.Settings  # later lookups bypass this function
    return model.Settings
