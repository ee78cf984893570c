"""What has this user set, and what does this machine say where nothing is set?

In come arguments, the environment, `.env`, a TOML file, key files, and the system's network interfaces.  Out come one
frozen `Settings`, and for whoever needs no more the single answers: which cache file, which keys, which broker, which
networks.  What the answers are used for is not known here: no document, no link, no chart, no command.

    model           `Settings`: every setting with its type, default and bounds
    sources         which source gives which setting, and what is said of a wrong one
    environment     the one way to the environment, `.env` and the TOML file; loads nothing where there is no file
    parsing         how the text of a setting becomes its value
    which_file      where the cache file is
    key_file        keys as text, and the file they stand in
    broker_address  one AMQP URL as a value
    networks        the addresses and networks of this machine

`which_file` and `environment` are on the way of a program that only reads the file, so neither they nor this file
load pydantic; `Settings` is loaded by whoever names it.
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

    globals()[name] = model.Settings  # found without this function from now on
    return model.Settings
