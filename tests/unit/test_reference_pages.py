"""The reference pages say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from miros_cache_net.errors import Reason
from miros_cache_net.events import PUBLIC_SIGNALS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_that_come_from_the_code_are_up_to_date() -> None:
    tool = DOCS / "tools" / "reference.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("signal_name", PUBLIC_SIGNALS)
def test_every_public_signal_has_its_line(signal_name: str) -> None:
    assert f"| `{signal_name}` |" in (DOCS / "reference" / "signals.md").read_text()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_line(reason: Reason) -> None:
    assert f"| `{reason.value}` |" in (DOCS / "reference" / "signals.md").read_text()
