"""The page of commands says what the commands say."""

from __future__ import annotations

import runpy

from tests.cli_command import SOURCES

PAGE = SOURCES / "docs" / "reference" / "commands.md"


def test_the_page_of_commands_is_up_to_date() -> None:
    made = runpy.run_path(str(SOURCES / "docs" / "tools" / "commands.py"))["page"]()
    assert PAGE.read_text() == made, "run: python docs/tools/commands.py > docs/reference/commands.md"


def test_the_page_names_every_exit_code() -> None:
    from miros_cache_net.cli.exits import Exit

    text = PAGE.read_text()
    assert all(f"| {code.value} | " in text for code in Exit)
