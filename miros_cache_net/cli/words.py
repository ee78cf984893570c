"""The glossary's words, explained at the end of each help that uses them.

Each as the first sentence of its entry in docs/explanation/glossary.md; a test compares.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

import click

WORDS: Final = {
    "bridge": "The one process of a host that holds the link to the broker.",
    "document": "What a fleet agrees on: one floor, and the entries above it.",
    "fleet": "The hosts that share a scope, a broker and a key.",
    "host": "All processes that share one cache file: usually a machine; a container with a volume of its own is a "
    "host too.",
    "in step": "An answer to this host's own question is stored in its file, or a peer's digest agreed, or nobody has "
    "answered for 3 s.",
    "node": "A `CacheNode`, in a program or as the command `node`: it keeps a host's file in step with the fleet's.",
    "ring": "The keys of a host: the first encrypts, all decrypt.",
    "scope": "The namespace of a document: hosts of one scope share its documents.",
    "suspect": "A peer that a program could not reach.",
    "trouble": "What is wrong with a host, in one line that says how to fix it; `status` shows it.",
}
_WIDTH: Final = 78


def explain(command: click.Command) -> None:
    """Have the command's help, and those of its own commands, end with the words that they use."""
    if command.epilog is None:
        command.epilog = "\n".join(_lines(_text_of(command))) or None
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        explain(each)


def used_in(text: str) -> list[str]:
    """Which of the words the text uses; one of them or many."""
    return [word for word in WORDS if re.search(rf"\b{word}s?\b", text, re.IGNORECASE)]


def _text_of(command: click.Command) -> str:
    options = [option.help or "" for option in command.params if isinstance(option, click.Option)]
    prose = (command.help or "").partition("\b\nExamples:")[0]
    return "\n".join([" ".join(prose.split()), *options])


def _lines(text: str) -> Iterator[str]:
    words = used_in(text)
    if words:
        yield from ("\b", "Words:")
    indent = max(map(len, words), default=0) + 4
    for word in words:
        wrapped = textwrap.wrap(WORDS[word], _WIDTH - indent)
        yield f"  {word.ljust(indent - 2)}{wrapped[0]}"
        yield from (" " * indent + line for line in wrapped[1:])
