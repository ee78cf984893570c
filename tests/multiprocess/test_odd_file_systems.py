"""File systems and containers that have no owners, groups, modes, lists or times to give: writes go on there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.errors import StoreError
from miros_cache_net.store.sidecar import sidecar_path
from tests.multiprocess.children import Child, say
from tests.multiprocess.strace import traced

pytestmark = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can be somebody else")

GROUP, MEMBER = 4100, 4101
HIDE = "for id in /etc/machine-id /var/lib/dbus/machine-id; do ! test -e $id || mount --bind /dev/null $id; done;"


@pytest.fixture(name="shared")
def new_shared() -> Iterator[Path]:
    """Where a document may be made, in a directory that a group may write and whose files do not get its group."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o770)
        os.chown(directory, -1, GROUP)
        yield Path(directory) / "cache.json"


def update(writer: int, path: Path, key: str) -> None:
    os.umask(0o077)
    try:
        Cache(path).update({key: 1})
    except StoreError as error:
        say(writer, str(error))
    os._exit(0)


def member_updates(path: Path, key: str) -> bytes:
    child = Child(update, path, key, uid=MEMBER, gid=GROUP)
    assert child.join() == 0
    return child.said


@pytest.mark.parametrize("mode", [0o770, 0o2770, 0o775])
def test_group_unknown_to_the_namespace_stops_no_write(shared: Path, mode: int) -> None:
    shared.parent.chmod(mode)
    program = f"from miros_cache_net import Cache; Cache({str(shared)!r}).update({{'a': 1}})"
    for _ in range(2):
        subprocess.run(["unshare", "--user", "--map-root-user", sys.executable, "-c", program], check=True, timeout=60)
    assert read_cache(shared).dict == {"a": 1}
    if mode != 0o775:  # there whoever is let in might be anybody
        assert member_updates(shared, "b") == b""
    else:
        assert b"no permission" in member_updates(shared, "b")


@pytest.mark.parametrize("error", ["EINVAL", "EOPNOTSUPP", "EROFS"])
@pytest.mark.parametrize("call", ["fchown", "fchmod", "fgetxattr", "fsetxattr", "utimensat", "linkat"])
def test_failing_file_attributes_stop_no_write(shared: Path, tmp_path: Path, call: str, error: str) -> None:
    for key in "ab":
        child = traced(tmp_path / "log", update, shared, key, inject=f"{call}:error={error}")
        assert (child.status, child.said) == (0, b"")
    assert read_cache(shared).dict == {"a": 1, "b": 1}
    assert sorted(os.listdir(shared.parent)) == [".cache.json.lock", "cache.json"]


def test_directory_that_cannot_be_synced_stops_no_write(shared: Path, tmp_path: Path) -> None:
    child = traced(tmp_path / "log", update, shared, "a", inject="fsync:error=EINVAL:when=2")
    assert (child.status, child.said) == (0, b"")
    assert read_cache(shared).dict == {"a": 1}


@pytest.mark.parametrize("what", ["signal=KILL", "error=EIO"])
@pytest.mark.parametrize("call", ["fgetxattr", "fchown", "fchmod", "linkat"])
def test_failed_making_of_lock_file_blocks_nobody(shared: Path, tmp_path: Path, call: str, what: str) -> None:
    traced(tmp_path / "log", update, shared, "a", inject=f"{call}:{what}")
    assert member_updates(shared, "b") == b""
    assert read_cache(shared).dict["b"] == 1


def test_failure_without_nameless_files_leaves_no_file(shared: Path, tmp_path: Path) -> None:
    failing = "linkat:error=EXDEV"
    traced(tmp_path / "log", update, shared, "a", inject=failing)
    assert json.loads(Path(sidecar_path(str(shared))).read_text())["holder"] == ""
    assert member_updates(shared, "b") == b""
    Path(sidecar_path(str(shared))).unlink()
    child = traced(tmp_path / "log", update, shared, "c", inject="fchown:error=EIO")
    assert b"the disk reports an error" in child.said
    assert os.listdir(shared.parent) == ["cache.json"]
    assert member_updates(shared, "d") == b""


def test_containers_of_one_volume_write_under_one_name(shared: Path) -> None:
    program = f"from miros_cache_net import Cache; print(Cache({str(shared)!r}).write({{'a': 1}}).origin)"
    origins = set()
    for name, knows_its_machine in (("alpha", True), ("beta", False), ("gamma", True), ("delta", False)):
        hide = "" if knows_its_machine else HIDE
        command = f'hostname {name}; {hide} exec "$0" -c "$1"'
        done = subprocess.run(
            ["unshare", "--uts", "--mount", "sh", "-c", command, sys.executable, program],
            check=True,
            timeout=60,
            stdout=subprocess.PIPE,
        )
        origins.add(done.stdout)
    assert len(origins) == 1
    assert origins.pop().startswith(b"alpha-")
