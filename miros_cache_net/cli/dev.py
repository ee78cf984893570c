"""``miros-cache-net dev``: a fleet on this machine until Ctrl-C, to try things."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from miros_cache_net.cli.cache_file import count_text, json_option
from miros_cache_net.cli.exits import PROGRAM, Exit, Terminated, say
from miros_cache_net.cli.host_names import HOST_NAMES, hosts_option
from miros_cache_net.cli.output import print_json, print_line

if TYPE_CHECKING:
    from miros_cache_net.cli.dev_host import DevHost
    from miros_cache_net.testing.rabbit import RabbitServer

#: How often the broker's process is looked at.
_LOOK_EVERY_S: Final = 0.5


@click.command("dev")
@hosts_option
@json_option
def command(count: int, as_json: bool) -> int:
    """Run a fleet on this machine until Ctrl-C, to try things.

    A private RabbitMQ on a free port of the loopback address, and N processes of `node --discover`, each of which
    stands for a host: its own directory, cache file, name and settings, one key for all. The command prints what to
    type in another terminal to work on one of the hosts, then what happens on each. Your own settings, keys, files and
    RabbitMQ are not touched. Ctrl-C ends all of it, and nothing is left; so does any other end of this process.

    It needs RabbitMQ's programs (Debian's package rabbitmq-server), which need not run as a service. With --json the
    one line on standard output names broker, hosts, files and process ids; the rest goes to standard error.

    \b
    Examples:
      miros-cache-net dev
      miros-cache-net dev -n 5
      miros-cache-net dev --json | jq --unbuffered -r '.hosts[].config'
    """
    from miros_cache_net.cli.dev_host import DevHost, guarding, new_fleet
    from miros_cache_net.testing.rabbit import RabbitServer

    tell = say if as_json else print_line
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-dev-")))
        server = RabbitServer()
        stack.callback(server.close)
        tell("starting a private RabbitMQ (takes a few seconds) ...")
        server.start()
        environment = new_fleet(directory)
        tell(f"starting {count_text(count, 'host')} ...")
        hosts: list[DevHost] = []
        for name in HOST_NAMES[:count]:
            hosts.append(DevHost(name, directory, server, environment, tell))
            stack.callback(hosts[-1].stop)
        stack.enter_context(guarding(directory, [host.pid for host in hosts]))
        for host in hosts:
            host.wait_in_step()
        if as_json:
            print_json({"directory": str(directory), "broker": server.url, "hosts": [each.facts() for each in hosts]})
        else:
            _say_what_to_type(directory, hosts, tell)
        with contextlib.suppress(KeyboardInterrupt, Terminated):
            _until_told(server)
        tell("ending all of it ...")
        for host in hosts:
            host.tell_to_end()
    return Exit.DONE


def _until_told(server: RabbitServer) -> None:
    """Return only by a signal's exception; raises `RabbitFailed` if the broker ends by itself."""
    from miros_cache_net.testing.rabbit import RabbitFailed

    while server.running:
        time.sleep(_LOOK_EVERY_S)
    raise RabbitFailed("the private RabbitMQ has ended by itself, so the fleet ends too")


def _say_what_to_type(directory: Path, hosts: Sequence[DevHost], tell: Callable[[str], None]) -> None:
    from miros_cache_net.cli.dev_host import overriding

    first, others = hosts[0], [host.name for host in hosts[1:]]
    tell(f"{count_text(len(hosts), 'host')} in step. In another terminal, be on {first.name}:")
    typed = [
        *(f"unset {name}" for name in overriding()),
        f"export MIROS_CACHE_CONFIG={shlex.quote(str(first.config))}",
        f"{PROGRAM} update 'note=\"hello\"'",
        f"{PROGRAM} status",
    ]
    print(*(f"    {line}" for line in typed), sep="\n", flush=True)
    if others:
        tell(f"{', '.join(others)}: likewise, with {directory}/NAME.toml")
    pids = ", ".join(f"{host.name} {host.pid}" for host in hosts)
    tell(f"processes to kill, to see the others go on: {pids}")
    tell("Ctrl-C ends everything and removes that directory.")
