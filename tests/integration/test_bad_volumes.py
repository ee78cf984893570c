"""`node` on a volume that it cannot use, as an operator mounts it: one line that says what to mend, and no node."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import free_port
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import COMMAND, error_line, run

#: Which run the command on a directory: mounted read-only, as another user, denied by what is stronger than the mode.
READ_ONLY = ("unshare", "--mount", "sh", "-c", 'mount --bind -o ro volume volume && exec "$@"', "sh")
AS_ANOTHER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
DENIED = ("strace", "--follow-forks", "--output=/dev/null", "--inject=openat:error=EACCES", "--trace-path={directory}")


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that other users reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (READ_ONLY, "mounted read-only; mount it writable (a container: without `:ro`)"),
        (AS_ANOTHER, "no permission; check the owner and mode of the file"),
        (DENIED, "SELinux or AppArmor"),
    ],
    ids=["read-only", "of another user", "denied"],
)
def test_a_node_says_what_is_wrong_with_its_volume(
    open_to_all: Path, before: tuple[str, ...], words: str
) -> None:  # fmt: skip
    volume = open_to_all / "volume"
    volume.mkdir(mode=0o755)
    done = run(
        open_to_all,
        "node",
        "--file",
        "volume/cache.json",
        before=(*(word.format(directory=volume) for word in before), *COMMAND),
        MIROS_CACHE_KEYS=generate_key().decode(),
        MIROS_CACHE_AMQP_URL=f"amqp://127.0.0.1:{free_port()}",
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert done.returncode == 3, done.stderr
    assert words in error_line(done)
    assert os.listdir(volume) == []
