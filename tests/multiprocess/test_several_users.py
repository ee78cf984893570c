"""One directory, several users: who may write it may write the cache, whoever came first and under whatever umask."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.sidecar import sidecar_path
from tests.multiprocess.children import Child

pytestmark = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can be somebody else")

FLEET = 4000


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    umask: int = 0o022


ALICE, BOB = User(4001, 4001, (FLEET,), 0o077), User(4002, 4002, (FLEET,), 0o077)
CAROL, ROOT = User(4003, 4003), User(0, 0, (), 0o077)


def act(user: User, function: Callable[..., Any], *arguments: Any) -> int:
    """Have `user` do it in a process of its own; 0 if that went well."""

    def run(_writer: int) -> None:
        os.umask(user.umask)
        function(*arguments)

    return Child(run, uid=user.uid, gid=user.gid, groups=user.groups).join()


def update(path: Path, key: str) -> None:
    with Cache(path) as cache:
        cache.update({key: 1})


def lock(path: Path) -> None:
    taken = KernelLock(path)
    assert taken.try_lock()


def contents(path: Path) -> list[str]:
    with Cache(path) as cache:
        return sorted(cache.read().dict)


@pytest.fixture(name="directory")
def new_directory() -> Iterator[Path]:
    """A directory of the fleet's group, which may write it; its owner is Alice."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        directory = Path(name) / "cache"
        directory.mkdir()
        os.chown(directory, ALICE.uid, FLEET)
        directory.chmod(0o2770)
        yield directory


@pytest.fixture(name="shared")
def new_shared(directory: Path) -> Path:
    return directory / "cache.json"


def status_of(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.mark.parametrize("directory_mode", [0o2770, 0o770])
@pytest.mark.parametrize("first", [ALICE, BOB, ROOT])
def test_whoever_writes_first_shuts_no_member_out(shared: Path, directory_mode: int, first: User) -> None:
    shared.parent.chmod(directory_mode)
    for number, user in enumerate((first, BOB, ALICE, ROOT, BOB, ALICE)):
        assert act(user, update, shared, f"{number}") == 0
        assert act(user, lock, shared.with_name(f".lock-{number}")) == 0
        assert act(BOB, lock, shared.with_name(f".lock-{number}")) == 0
    assert act(ALICE, contents, shared) == 0
    assert contents(shared) == [str(number) for number in range(6)]
    assert status_of(shared)[1:] == (FLEET, 0o660)
    assert status_of(Path(sidecar_path(str(shared))))[1:] == (FLEET, 0o660)
    assert act(CAROL, contents, shared) != 0


@pytest.mark.parametrize("directory_mode", [0o700, 0o755, 0o2770])
def test_files_made_by_root_belong_to_directory_owner(shared: Path, directory_mode: int) -> None:
    shared.parent.chmod(directory_mode)
    assert act(ROOT, update, shared, "a") == 0
    assert {each.stat().st_uid for each in shared.parent.iterdir()} == {ALICE.uid}
    assert act(ALICE, update, shared, "b") == 0
    assert act(ROOT, update, shared, "c") == 0
    assert act(ALICE, update, shared, "d") == 0
    assert contents(shared) == ["a", "b", "c", "d"]


def test_lock_owner_can_reach_roots_bridge_socket(shared: Path) -> None:
    shared.parent.chmod(0o700)
    address = SocketAddress(shared.with_name(".bridge.lock"))
    listener = address.listen(0o600, FLEET, ALICE.uid)
    assert act(ALICE, lambda: address.connect().close()) == 0
    assert act(BOB, lambda: address.connect().close()) != 0
    listener.close()


def test_root_gives_nobody_what_was_another_s(shared: Path) -> None:
    assert act(BOB, update, shared, "a") == 0
    shared.chmod(0o600)
    assert act(ROOT, update, shared, "b") == 0
    assert status_of(shared) == (BOB.uid, FLEET, 0o600)


def test_private_document_stays_private(shared: Path) -> None:
    bob = BOB._replace(umask=0o022)
    assert act(bob, update, shared, "a") == 0
    shared.chmod(0o600)
    assert act(bob, update, shared, "b") == 0
    assert status_of(shared) == (BOB.uid, FLEET, 0o600)
    shared.write_text("{broken")
    os.utime(shared, (1e9, 1e9))
    assert act(bob, update, shared, "c") == 0
    assert status_of(shared) == (BOB.uid, FLEET, 0o600)


def test_a_umask_that_takes_everything_stops_no_write(shared: Path) -> None:
    bob = BOB._replace(umask=0o777)
    for key in "ab":
        assert act(bob, update, shared, key) == 0
        assert act(ALICE, update, shared, key) == 0
    assert contents(shared) == ["a", "b"]


def test_directory_owner_need_not_be_in_its_group(shared: Path) -> None:
    shared.parent.chmod(0o770)
    stranger = ALICE._replace(groups=())
    assert act(stranger, update, shared, "a") == 0
    assert act(BOB, update, shared, "b") == 0
    assert act(stranger, update, shared, "c") == 0
    assert contents(shared) == ["a", "b", "c"]


# --- access control lists -------------------------------------------------------------------------

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OWNER, USER, GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def entries(packed: bytes) -> set[tuple[int, int, int]]:
    return set(struct.iter_unpack("<HHI", packed[4:]))  # type: ignore[arg-type]


def list_of(*, carol: int, group: int = 0, mask: int = 7) -> bytes:
    nobody = 0xFFFFFFFF
    named = (USER, carol, CAROL.uid)
    return acl((OWNER, 7, nobody), named, (GROUP, group, nobody), (MASK, mask, nobody), (OTHERS, 0, nobody))


def test_the_list_of_a_document_survives_every_write(shared: Path) -> None:
    shared.parent.chmod(0o2771)
    assert act(ALICE, update, shared, "a") == 0
    os.setxattr(shared, ACCESS, list_of(carol=4, group=6, mask=6))
    before = os.getxattr(shared, ACCESS)
    for user in (ALICE, BOB, ROOT):
        assert act(user, update, shared, str(user.uid)) == 0
        assert entries(before) <= entries(os.getxattr(shared, ACCESS))
    assert act(CAROL, contents, shared) == 0


@pytest.mark.parametrize("handed_on", [True, False])
@pytest.mark.parametrize("first", [ALICE, CAROL, ROOT])
def test_access_list_of_directory_lets_users_write(shared: Path, first: User, handed_on: bool) -> None:
    os.setxattr(shared.parent, ACCESS, list_of(carol=7))
    if handed_on:
        os.setxattr(shared.parent, DEFAULT, list_of(carol=7))
    for number, user in enumerate((first._replace(umask=0o077), CAROL, ALICE, ROOT, CAROL)):
        assert act(user, update, shared, f"{number}") == 0
    assert contents(shared) == [str(number) for number in range(5)]
    # the group may not write the directory
    assert act(BOB, contents, shared) != 0


def test_default_list_for_reading_gives_no_lock(shared: Path) -> None:
    shared.parent.chmod(0o755)
    os.setxattr(shared.parent, DEFAULT, list_of(carol=4))
    assert act(ALICE, update, shared, "a") == 0
    assert act(CAROL, contents, shared) == 0
    assert act(CAROL, os.open, sidecar_path(str(shared)), os.O_RDONLY) != 0
    assert act(BOB, contents, shared) != 0


def test_access_list_taken_off_does_not_come_back(shared: Path) -> None:
    os.setxattr(shared.parent, DEFAULT, list_of(carol=4))
    assert act(ALICE, update, shared, "a") == 0
    os.removexattr(shared, ACCESS)
    assert act(ALICE, update, shared, "b") == 0
    with pytest.raises(OSError, match="No data"):
        os.getxattr(shared, ACCESS)
