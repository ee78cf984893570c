"""Does the fleet understand this host?  A link alone does not tell: others may hold another key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from miros_cache_net.cli.cache_file import count_text
from miros_cache_net.cli.fleet_settings import silence_line
from miros_cache_net.cli.health.finding import FAILED, OK, SKIPPED, Finding
from miros_cache_net.errors import BrokerError
from miros_cache_net.fleet.fleet_client import FleetClient
from miros_cache_net.fleet.links import LinkFactory, rabbit_link

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

_CHECK: Final = "answers"


def check_answers(settings: Settings, path: Path, link_factory: LinkFactory = rabbit_link) -> Finding:
    """Ask every node for its status.  One that hears nobody itself, as this host's own may, counts for nothing.

    Raises `SettingsError` where there is no usable key.
    """
    try:
        with FleetClient(settings, path, link_factory=link_factory) as fleet:
            if fleet.up is None or fleet.up.request_servers == 0:
                return Finding(_CHECK, OK, "nobody there to ask")
            in_step = sum(node.get("connected") is True and not node.get("trouble") for node in fleet.statuses())
            if not in_step:
                return Finding(_CHECK, FAILED, silence_line(fleet))
    except BrokerError:
        return Finding(_CHECK, SKIPPED, "needs the link to the broker")
    return Finding(_CHECK, OK, f"{count_text(in_step, 'node')} in step with the fleet")
