"""What the shell completes where a command wants a file, a key id, a key of the document, a host or a node.

A completion that fails completes nothing: whoever types must not be interrupted by an error.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from miros_cache_net.settings.which_file import cache_path

#: How long a person who has pressed Tab is made to wait for the fleet.
_FLEET_S: Final = 1.0

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of paths."""
    return [CompletionItem(incomplete, type="file")]


def _from(words: Callable[[dict[str, Any]], Iterable[str]]) -> Completer:
    """Completes with those of the words that begin with what was typed; `words` gets the command's options."""

    @functools.wraps(words)
    def complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        logging.disable()  # a line of the log would land in the middle of what is being typed
        try:
            return [CompletionItem(word) for word in words(ctx.params) if word.startswith(incomplete)]
        except Exception:
            return []

    return complete


@_from
def key_ids(options: dict[str, Any]) -> Iterable[str]:
    from miros_cache_net.settings import Settings
    from miros_cache_net.settings.key_file import key_id

    settings = Settings.load(keys_file=options.get("keys_file"))
    return [key_id(key) for key in settings.load_keys()]


@_from
def document_keys(options: dict[str, Any]) -> Iterable[str]:
    from miros_cache_net.store.plain_read import read_cache

    return read_cache(_path(options)).dict


@_from
def assignments(options: dict[str, Any]) -> Iterable[str]:
    from miros_cache_net.store.plain_read import read_cache

    return [f"{key}=" for key in read_cache(_path(options)).dict]


@_from
def hosts(options: dict[str, Any]) -> Iterable[str]:
    from miros_cache_net.discovery import lan_document
    from miros_cache_net.store.plain_read import read_cache

    return lan_document.addresses_in(read_cache(_path(options)).dict) or ()


@_from
def nodes(options: dict[str, Any]) -> Iterable[str]:
    """By this host's bridge: nobody waits for a link of his own."""
    from miros_cache_net.host.stranger import fleets_of

    answers = [fleet.statuses(_FLEET_S) for fleet in fleets_of(_path(options))]
    return [str(node.get("node")) for statuses in answers for node in statuses]


def _path(options: dict[str, Any]) -> Path:
    return cache_path(options.get("file_path"))
