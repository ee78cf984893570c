"""``miros-cache-net demo``: three nodes on this machine, one discovers, two reuse."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click

from miros_cache_net.cli.exits import Exit
from miros_cache_net.cli.output import print_json

#: Not passed on to the demo's hosts: the user's own keys, hosts and time-out.
_USERS_OWN: Final = frozenset(
    {
        "MIROS_CACHE_KEYS",
        "MIROS_CACHE_KEYS_FILE",
        "MESH_ENCRYPTION_KEY",
        "MESH_ENCRYPTION_KEY_FILE",
        "MIROS_CACHE_HOSTS_FILE",
        "MIROS_CACHE_TIME_OUT_IN_MINUTES",
    }
)

_WHERE_TO_LOOK: Final = """
Where to look next:
  miros-cache-net demo --view       the same on a live web page, which stays until Ctrl-C
  docs/tutorial/first-cache.md      a cache for one machine, step by step
  docs/how-to/run-a-fleet.md        a fleet of your own, and docs/how-to/look-at-a-fleet.md to see it
  examples/                         statecharts and plain programs that run as they stand"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print only the measurements, as one JSON object.")
@click.option("--view", "viewed", is_flag=True, help="Show it as a live web page too, and leave that up until Ctrl-C.")
def command(as_json: bool, viewed: bool) -> int:
    """Show the main use: three nodes on this machine, one discovers, two reuse.

    Three real processes of `miros-cache-net node --discover` stand for three hosts, each with its own
    directory, and talk through a real RabbitMQ: that of the settings if it answers, else a private one. The process
    that discovered is killed, and another takes its place. The demo ends by itself and leaves nothing behind.

    \b
    Examples:
      miros-cache-net demo
      miros-cache-net demo --view
      miros-cache-net demo --json
    """
    from miros_cache_net.cli.demo.broker import broker_for
    from miros_cache_net.cli.demo.eavesdropper import Eavesdropper
    from miros_cache_net.cli.demo.live_page import LivePage
    from miros_cache_net.cli.demo.neighbourhood import Neighbourhood
    from miros_cache_net.cli.demo.story import Facts, Story
    from miros_cache_net.fleet.place import place_of
    from miros_cache_net.settings import Settings
    from miros_cache_net.wire.keyring import generate_key

    def say(text: str) -> None:
        print(text, file=sys.stderr if as_json else sys.stdout, flush=True)

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
                **{name: value for name, value in os.environ.items() if name not in _USERS_OWN},
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
            with contextlib.ExitStack() as stack:
                tap = stack.enter_context(Eavesdropper(settings, place_of(settings, directory / "cache.json")))
                page = stack.enter_context(LivePage(directory, environment)) if viewed else None
                if page is not None:
                    say(f"\nThe live page: {page.url}")
                    _open_in_browser(page.url)
                story = Story(directory, environment, neighbours.candidates, tap, say)
                stack.callback(story.close)
                facts: Facts = story.play()
                if page is not None:
                    say(f"\nBeta and gamma still run: look at {page.url}, and end with Ctrl-C.")
                    page.stay()
    if as_json:
        print_json(facts.as_json(), pretty=True)
    say(f"\nDone in {time.monotonic() - began_s:.1f} s: one paid, all reused. Nothing is left running.")
    say(_WHERE_TO_LOOK)
    return Exit.DONE


def _open_in_browser(url: str) -> None:
    """Where there is a desktop; a browser in the demo's own terminal would be in its way."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        import webbrowser

        webbrowser.open(url)
