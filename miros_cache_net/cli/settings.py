"""`miros-cache-net settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from miros_cache_net.cli.cache_file import json_option
from miros_cache_net.cli.completing import files
from miros_cache_net.cli.exits import PROGRAM, Exit
from miros_cache_net.cli.output import print_json, print_line, print_table

LOCAL_FILE: Final = "miros-cache-net.toml"


@click.command("settings")
@click.option(
    "--init",
    "new_file",
    is_flag=False,
    flag_value=LOCAL_FILE,
    metavar="[PATH]",
    shell_complete=files,
    help=f"Write a file of all settings as comments: {LOCAL_FILE} here, or PATH; - prints it.",
)
@json_option
def command(new_file: str | None, as_json: bool) -> int:
    """Show every setting and where it comes from.

    Sources, the weakest first: defaults, a TOML file (the one that MIROS_CACHE_CONFIG names, else
    ./miros-cache-net.toml, else ~/.config/miros-cache-net/config.toml), the file .env here, the environment.
    Secrets are not shown.

    \b
    Examples:
      miros-cache-net settings
      miros-cache-net settings --init
      miros-cache-net settings --init ~/.config/miros-cache-net/config.toml
      MIROS_CACHE_SCOPE=lab miros-cache-net settings --json | jq '.[] | select(.source != "default")'
    """
    if new_file is not None:
        return _begin(new_file, as_json)
    rows = effective_settings()
    if as_json:
        print_json(rows)
    else:
        cells = [(row["setting"], row["variable"], _text(row["value"]), row["source"]) for row in rows]
        print_table(("setting", "variable", "value", "from"), cells)
    return Exit.DONE


def _begin(new_file: str, as_json: bool) -> int:
    from miros_cache_net.cli.settings_file import make, template

    if new_file == "-":
        print(template(), end="")
        return Exit.DONE
    path = Path(new_file).expanduser().absolute()
    make(path)
    if as_json:
        print_json({"file": str(path)})
    else:
        print_line(f"made {path}, where everything is a comment; edit it, then run `{PROGRAM} settings`")
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
            continue  # derived from another setting
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
