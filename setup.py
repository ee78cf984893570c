"""Everything is in pyproject.toml, but for the description: README.md, its links leading to the files of this version.

In a clone they lead to its own files, as they stand; on the page of a package index they would lead nowhere.
"""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


def value_of(name: str) -> str:
    """A text in pyproject.toml; tomllib comes with Python 3.11 only."""
    found = re.search(rf'^{name} = "(.*)"$', PROJECT, re.MULTILINE)
    assert found, name
    return found[1]


def absolute(readme: str) -> str:
    """Links to files become links to the files of the tag of this version."""
    files = f"{value_of('Source')}/blob/v{value_of('version')}/"
    return re.sub(r"\]\((?![a-z]+:|#)", f"]({files}", readme)


setup(
    long_description=absolute((ROOT / "README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
)
