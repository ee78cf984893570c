"""`miros-cache-net view`."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Final

import click

from miros_cache_net.cli.cache_file import file_option
from miros_cache_net.cli.exits import Exit, Terminated, printable

_PORT: Final = 8321
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@click.command("view")
@click.option(
    "--port", type=click.IntRange(0, 65_535), metavar="N", default=_PORT, show_default=True, help="0: any free one."
)
@click.option(
    "--bind",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Where others may ask for the page; beyond loopback it asks them for a token.",
)
@file_option
def command(port: int, bind: str, file_path: str | None) -> int:
    """Show the fleet as a live web page.

    The page shows every node and what is wrong with it, the states of its charts, who wrote what when, the last write's
    way through the fleet, and counters as plots.  It changes nothing, loads nothing from elsewhere, and costs the fleet
    nothing while nobody looks at it.  Beyond loopback (--bind) it wants the token that this command prints; it is not
    encrypted, so put a proxy with TLS before it.

    \b
    Examples:
      miros-cache-net view
      miros-cache-net view --port 0 --file /srv/cache/peers.json
      miros-cache-net view --bind 0.0.0.0
    """
    from miros_cache_net.cli.fleet_settings import load_settings
    from miros_cache_net.settings.which_file import cache_path
    from miros_cache_net.wire.keyring import open_ring

    settings = load_settings(file_path)
    open_ring(settings)  # what is wrong with the keys is said here, not on the page
    try:
        from miros_cache_net.view.app import Page
        from miros_cache_net.view.server import listening, serve
    except ImportError as error:
        raise click.UsageError(f"view needs {error.name}: pip install 'miros-cache-net[view]'") from error
    with listening(bind, port) as listener:
        token = None if _is_loopback(bind) else _new_token()
        page = Page(settings, cache_path(settings.file), _LOOPBACK if token is None else None, token)
        url = f"http://{f'[{bind}]' if ':' in bind else bind}:{listener.getsockname()[1]}/"
        with contextlib.suppress(KeyboardInterrupt, Terminated):  # running until then is its job
            serve(page.app, listener, lambda: _announce(url, token), page.close)
    return Exit.DONE


def _is_loopback(bind: str) -> bool:
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def _new_token() -> str:
    import secrets

    return secrets.token_urlsafe(18)


def _announce(url: str, token: str | None) -> None:
    print(printable(f"{url} shows the fleet until Ctrl-C"), flush=True)
    if token is not None:
        print(f"token: {token}", flush=True)
