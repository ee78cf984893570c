"""`miros-cache-net node`."""

from __future__ import annotations

import contextlib
import queue
import signal
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from miros_cache_net.cli.cache_file import file_option, json_option
from miros_cache_net.cli.completing import files
from miros_cache_net.cli.exits import Exit
from miros_cache_net.errors import DirectoryMissing

if TYPE_CHECKING:
    from miros_cache_net.cli.node_report import Happening
    from miros_cache_net.node import CacheNode
    from miros_cache_net.settings import Settings


@click.command("node")
@click.option(
    "--discover",
    is_flag=False,
    flag_value="auto",
    multiple=True,
    metavar="[HOST,...]",
    help="Keep the LAN document fresh: look for brokers on this machine's networks, or among these hosts.",
)
@click.option(
    "--hosts-file", metavar="PATH", shell_complete=files, help="Keep it fresh too: look among the hosts in this file."
)
@click.option("--log-format", type=click.Choice(["text", "json"]), help="How a line of the log is written.")
@click.option(
    "--metrics",
    is_flag=False,
    flag_value="127.0.0.1:9464",
    metavar="[HOST:PORT]",
    help="Serve /metrics for Prometheus, /healthz and /readyz there; without HOST on this machine only.  "
    "Needs the extra [metrics].",
)
@file_option
@json_option
def command(
    discover: tuple[str, ...],
    hosts_file: str | None,
    log_format: str | None,
    metrics: str | None,
    file_path: str | None,
    as_json: bool,
) -> int:
    """Run a node in the foreground until a signal.

    It keeps this host's cache file in step with the fleet's, prints one line per event, and exits cleanly (code 0)
    on Ctrl-C, SIGTERM or SIGHUP.  Without a broker it serves the file, and catches up when one answers.
    Programs that build a CacheNode of their own do not need it; several nodes on one host share one link.  Where
    systemd starts it (`install-service`), it says when it has started, how it stands, and that it does not hang.

    With --discover it also keeps the fleet's LAN document fresh.  It uses what the fleet has.  When no host has a
    fresh one, one host discovers for all; it does so ahead of expiry too, and scouts again what a program has reported
    (`update 'suspect:HOST=true'`).  Run the same command on every host: when the one that discovers dies, another takes
    over.  Without a HOST it probes every address of this machine's networks, as `discover` does.  The settings
    `discover` and `hosts_file` do the same.

    \b
    Examples:
      miros-cache-net key new && miros-cache-net node
      miros-cache-net node --discover
      miros-cache-net node --discover=alpha.lab,beta.lab:5673
      miros-cache-net node --metrics 127.0.0.1:9464
      miros-cache-net node --hosts-file /etc/miros-cache-net/hosts.json
      MIROS_CACHE_AMQP_URL=amqp://beta.lab miros-cache-net node --file /srv/cache/peers.json
      miros-cache-net node --json | jq --unbuffered 'select(.what == "cache") | .dict'
    """
    from miros_cache_net.cli.fleet_settings import load_settings
    from miros_cache_net.cli.log_lines import LONG, log_to_stderr
    from miros_cache_net.settings.which_file import cache_path

    settings = load_settings(
        file_path, discover=",".join(discover) or None, hosts_file=hosts_file, log_format=log_format
    )
    path = cache_path(settings.file)
    if not path.parent.is_dir():
        raise DirectoryMissing(f"{path}: its directory does not exist; create it")
    log_to_stderr(settings.log_level, settings.log_format, LONG)
    _run(settings, as_json, metrics)
    return Exit.DONE


def _run(settings: Settings, as_json: bool, metrics: str | None) -> None:
    from miros_cache_net.cli.node_report import HEARD, NodeReport
    from miros_cache_net.cli.supervisor import Supervisor
    from miros_cache_net.node import CacheNode
    from miros_cache_net.statechart.listener import Listener

    happenings: queue.SimpleQueue[Happening] = queue.SimpleQueue()

    def put(signal_name: str, payload: object) -> None:
        happenings.put((signal_name, payload))

    with contextlib.ExitStack() as stack, _signals_put(happenings):
        listener = Listener({name: partial(put, name) for name in HEARD})
        stack.callback(listener.stop)
        node = CacheNode(settings=settings, metrics=metrics)
        stack.callback(node.stop)
        if settings.discover or settings.hosts_file:
            stack.enter_context(_discovering(node))
        stack.enter_context(Supervisor().watching(node))
        NodeReport(node, as_json).follow(happenings)


@contextlib.contextmanager
def _discovering(node: CacheNode) -> Iterator[None]:
    """Keep the LAN document fresh, and scout new entries of the hosts file."""
    from miros_cache_net.discovery.lan import LanChart
    from miros_cache_net.events import EVALUATE_HOSTS_FILE, event
    from miros_cache_net.store.watch import FileWatch

    with LanChart(node) as lan, contextlib.ExitStack() as stack:

        def look_again() -> None:
            lan.post_fifo(event(EVALUATE_HOSTS_FILE))

        if node.settings.hosts_file is not None:
            stack.callback(FileWatch(node.settings.hosts_file, look_again).close)
        yield


@contextlib.contextmanager
def _signals_put(happenings: queue.SimpleQueue[Happening]) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP put None; after the block a further one interrupts as usual."""
    ends = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        ends.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda _number, _frame: happenings.put(None)) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
