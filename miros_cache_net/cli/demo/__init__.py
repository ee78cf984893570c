"""``miros-cache-net demo``: three nodes on this machine, one discovers, two reuse."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import Final

import click

from miros_cache_net.cli.exits import Exit
from miros_cache_net.cli.output import print_json

#: The user's own keys have no part in it.
_KEY_VARIABLES: Final = frozenset(
    {"MIROS_CACHE_KEYS", "MIROS_CACHE_KEYS_FILE", "MESH_ENCRYPTION_KEY", "MESH_ENCRYPTION_KEY_FILE"}
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as one JSON object, and nothing else.")
def command(as_json: bool) -> int:
    """Play the main job: three nodes on this machine, one discovers, two reuse.

    Three real processes stand for three hosts, each with a directory of its own, and talk through a real RabbitMQ: the
    one of the settings if it answers, else a private one. It ends by itself and leaves nothing behind.

    \b
    Examples:
      miros-cache-net demo
      miros-cache-net demo --json
    """
    from miros_cache_net.cli.demo.broker import broker_for
    from miros_cache_net.cli.demo.eavesdropper import Eavesdropper
    from miros_cache_net.cli.demo.neighbourhood import Neighbourhood
    from miros_cache_net.cli.demo.story import Facts, Story
    from miros_cache_net.fleet.links import place_of
    from miros_cache_net.settings import Settings
    from miros_cache_net.wire.keyring import generate_key

    def say(text: str) -> None:
        click.echo(text, err=as_json)

    began_s = time.monotonic()
    scope = f"demo-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="miros-cache-net-demo-") as name:
        directory = Path(name)
        keys = directory / "keys"
        keys.touch(mode=0o600)
        keys.write_bytes(generate_key() + b"\n")
        settings = Settings.load(
            scope=scope, site="", document="cache.json", file=directory / "cache.json", keys=(), keys_file=keys
        )
        with broker_for(settings, say) as (host, port, private_url), Neighbourhood(host, port) as neighbours:
            environment = {
                **{name: value for name, value in os.environ.items() if name not in _KEY_VARIABLES},
                "MIROS_CACHE_SCOPE": scope,
                "MIROS_CACHE_SITE": "",
                "MIROS_CACHE_DOCUMENT": "cache.json",
                "MIROS_CACHE_KEYS_FILE": str(keys),
                **({"MIROS_CACHE_AMQP_URL": private_url} if private_url else {}),
            }
            if private_url:
                settings = Settings.load(
                    amqp_urls=private_url, scope=scope, document="cache.json", keys=(), keys_file=keys
                )
            with Eavesdropper(settings, place_of(settings, directory / "cache.json")) as tap:
                story = Story(directory, environment, neighbours.candidates, tap, say)
                try:
                    facts: Facts = story.play()
                finally:
                    story.close()
    if as_json:
        print_json(facts.as_json(), pretty=True)
    say(f"\nDone in {time.monotonic() - began_s:.1f} s: one paid, all reused. Nothing is left running.")
    return Exit.DONE
