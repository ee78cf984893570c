"""The page of commands says what the commands say."""

from __future__ import annotations

import runpy
from collections.abc import Iterator

import click
import pytest

from miros_cache_net.cli.root import root
from tests.cli_command import SOURCES

PAGE = SOURCES / "docs" / "reference" / "commands.md"


def test_the_page_of_commands_is_up_to_date() -> None:
    made = runpy.run_path(str(SOURCES / "docs" / "tools" / "commands.py"))["page"]()
    assert PAGE.read_text() == made, "run: python docs/tools/commands.py"


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command there is, by its words."""
    context = click.Context(command, info_name="miros-cache-net")
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        each = command.get_command(context, name)  # type: ignore[attr-defined]
        yield " ".join((*words, name)), each
        yield from commands(each, (*words, name))


@pytest.mark.parametrize(("words", "command"), list(commands(root)), ids=lambda value: str(value)[:30])
def test_every_command_has_its_section(words: str, command: click.Command) -> None:
    page = PAGE.read_text()
    assert page.count(f"\n### {words}\n") == 1
    text = page.partition(f"\n### {words}\n")[2].partition("\n### ")[0]
    assert f"miros-cache-net {words}" in text
    for option in (each for each in command.params if isinstance(each, click.Option)):
        assert "| `" + "`, `".join(option.opts) + "`" in text
    for example in [line.strip() for line in (command.help or "").partition("Examples:")[2].splitlines()]:
        assert example in text


def test_the_page_names_every_exit_code() -> None:
    from miros_cache_net.cli.exits import Exit

    text = PAGE.read_text()
    assert all(f"| {code.value} | " in text for code in Exit)
