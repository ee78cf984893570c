"""The glossary's words in each command's help."""

from __future__ import annotations

import re

import click
import pytest

from miros_cache_net.cli import main
from miros_cache_net.cli.root import root
from miros_cache_net.cli.words import WORDS, used_in
from tests.cli_command import SOURCES

GLOSSARY = (SOURCES / "docs" / "explanation" / "glossary.md").read_text()


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_explained_as_in_the_glossary(word: str) -> None:
    entry = GLOSSARY.partition(f"\n**{word}**\n: ")[2].partition("\n\n")[0]
    said = " ".join(entry.split()).replace("*", "")
    assert said.startswith(WORDS[word])


def test_help_ends_with_the_words_that_it_uses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "list", "--help"]) == 0
    shown = capsys.readouterr().out
    words = re.findall(r"^    (\w[\w ]*?)  ", shown.partition("Words:")[2], re.MULTILINE)
    assert words == ["host", "ring"]
    assert WORDS["ring"] in " ".join(shown.split())


def test_words_are_found_in_either_number_and_not_inside_others() -> None:
    assert used_in("Nodes of a host") == ["host", "node"]
    assert used_in("--hostile localhost anode string") == []


def test_no_word_is_explained_beyond_a_terminals_width(capsys: pytest.CaptureFixture[str]) -> None:
    for name in root.list_commands(click.Context(root)):
        main([name, "--help"])
        words = capsys.readouterr().out.partition("Words:")[2]
        assert all(len(line) <= 80 for line in words.splitlines())
