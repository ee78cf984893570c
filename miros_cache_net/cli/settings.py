"""`miros-cache-net settings`."""

from __future__ import annotations

from typing import Any

import click

from miros_cache_net.cli.cache_file import json_option
from miros_cache_net.cli.exits import Exit
from miros_cache_net.cli.output import print_json, print_table


@click.command("settings")
@json_option
def command(as_json: bool) -> int:
    """Show every setting and where it comes from.

    Sources, the later the stronger: defaults, a TOML file (the one that MIROS_CACHE_CONFIG names, else
    ./miros-cache-net.toml, else ~/.config/miros-cache-net/config.toml), the file .env here, the environment.
    Secrets are not shown.

    \b
    Examples:
      miros-cache-net settings
      MIROS_CACHE_SCOPE=lab miros-cache-net settings --json | jq '.[] | select(.source != "default")'
    """
    rows = effective_settings()
    if as_json:
        print_json(rows)
    else:
        cells = [(row["setting"], row["variable"], _text(row["value"]), row["source"]) for row in rows]
        print_table(("setting", "variable", "value", "from"), cells)
    return Exit.DONE


def effective_settings() -> list[dict[str, Any]]:
    """Each setting as ``{setting, variable, value, source}``, without secrets; raises `SettingsError`."""
    from miros_cache_net.settings import Settings
    from miros_cache_net.settings.sources import EnvironmentSource, TomlSource

    values = Settings.load().model_dump(mode="json")
    environment, toml = EnvironmentSource(Settings), TomlSource(Settings)
    set_there = [(source(), source.origins) for source in (environment, toml)]
    rows = []
    for described in Settings.describe():
        if not described.env_names:
            continue  # follows from another one
        name = described.field
        sources = [origins[name] for given, origins in set_there if name in given and name in origins]
        rows.append(
            {
                "setting": name,
                "variable": described.env_names[0],
                "value": values[name],
                "source": sources[0] if sources else "default",
            }
        )
    return rows


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
