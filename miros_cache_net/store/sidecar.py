"""The record in the lock file beside the document: its holder, this host's name, and the last version written.

The lock file is created once, never replaced and never deleted, because `flock` belongs to an inode.
Its text is one padded line of JSON, written in place by a single system call while the lock is held.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from functools import cache
from typing import Any, NamedTuple

from miros_cache_net import limits
from miros_cache_net.document.layout import digest_of
from miros_cache_net.document.value import ZERO, Stamp, is_node_name
from miros_cache_net.settings.environment import variable
from miros_cache_net.store.paths import beside

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_MACHINE_ID_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
NEVER = (0, 0)
_DIGEST_DIGITS = 32
#: Parser errors for a file that another program may have filled.
_NO_RECORD = (ValueError, RecursionError)


def sidecar_path(document: str) -> str:
    """The path of a document's lock file: hidden, in the same directory, used for this document only."""
    return beside(document, f".{os.path.basename(document)}.lock")


class Sidecar(NamedTuple):
    """The lock file's record.

    node     this host's name in stamps; made once for each document
    made_on  device, inode and machine for which `node` was made: a copy gets its own name
    holder   the process in exclusive access, "" if none; a holder while the lock is free died or failed
    mode     permission bits that the holder has to restore on the document
    digest   version of the document that we wrote last
    newest   greatest stamp in that document
    clock    greatest stamp seen or issued, including stamps of documents that were not stored
    discovery  when this host's last discovery of it began and ended, by its own clock, in ms since 1970
    boot     the machine's boot id when this was written.  The document is synced but the record is not, so a record of
             an earlier boot may be older than the document
    """

    node: str
    made_on: str
    holder: str = ""
    mode: int = 0
    digest: str = ""
    newest: Stamp = ZERO
    clock: Stamp = ZERO
    discovery: tuple[int, int] = NEVER
    boot: str = ""

    def marked(self, mode: int) -> Sidecar:
        return self._replace(holder=f"{os.uname().nodename}:{os.getpid()}", mode=mode, boot=_boot())

    @property
    def is_certain(self) -> bool:
        """The record matches the document: no holder died inside, and no power cut can have left an older record."""
        return not self.holder and self.boot == _boot()

    def stored(self, digest: str, newest: Stamp) -> Sidecar:
        """The record after a replacement."""
        return self._replace(digest=digest, newest=newest, clock=max(newest, self.clock))

    def saw(self, stamp: Stamp) -> Sidecar:
        """The record after a stamp was seen or issued, stored or not: the next one is later.  The clock never falls."""
        return self if stamp <= self.clock else self._replace(clock=stamp)

    def cleared(self) -> Sidecar:
        """The record that a holder leaves behind."""
        return self._replace(holder="", mode=0)


def read_sidecar(fd: int, node_name: str | None = None) -> Sidecar:
    """The record in the file `fd`; a new one if it is empty or broken, and with a new node name if it is a copy."""
    status = os.fstat(fd)
    place, machine = f"{status.st_dev}:{status.st_ino}", _machine()
    made_on = f"{place}:{machine}"
    try:
        record = _parse(os.pread(fd, limits.SIDECAR_BYTES, 0))
    except _NO_RECORD:
        return Sidecar(new_node_name(node_name), made_on)
    if record.made_on == made_on or _is_same(record.made_on, place, machine):
        return record
    readable = node_name or record.node.rpartition("-")[0]
    return record._replace(node=new_node_name(readable), made_on=made_on)


def _is_same(made_on: str, place: str, machine: str) -> bool:
    """The place is the same, and one side, perhaps a container, does not know its machine."""
    known_place, _, known_machine = made_on.rpartition(":")
    return known_place == place and not (machine and known_machine)


def last_discovery(document: str) -> tuple[int, int]:
    """`Sidecar.discovery` of the document at that path, read without a lock; `NEVER` if there is none."""
    try:
        fd = os.open(sidecar_path(document), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return NEVER
    try:
        return _parse(os.pread(fd, limits.SIDECAR_BYTES, 0)).discovery
    except (OSError, *_NO_RECORD):
        return NEVER
    finally:
        os.close(fd)


def write_sidecar(fd: int, record: Sidecar) -> None:
    """Write the record in place, in one system call."""
    text = json.dumps(
        {
            "node": record.node,
            "made_on": record.made_on,
            "holder": record.holder,
            "mode": record.mode,
            "digest": record.digest,
            "newest": str(record.newest),
            "clock": str(record.clock),
            "discovery": record.discovery,
            "boot": record.boot,
        }
    )
    line = text.encode().ljust(limits.SIDECAR_BYTES - 1) + b"\n"
    os.pwrite(fd, line, 0)
    _remember(line, record)


def new_node_name(name: str | None = None) -> str:
    """A node name: a readable part (`name`, else from the environment, else the host's) and 8 random hex digits."""
    readable = name or variable("MIROS_CACHE_NODE_NAME") or os.uname().nodename
    slug = re.sub(r"[^a-z0-9]+", "-", readable.lower()).strip("-")[: limits.NODE_NAME_BYTES - 9].rstrip("-")
    return f"{slug or 'node'}-{os.urandom(4).hex()}"


@cache
def _machine() -> str:
    """Distinguishes this machine from a clone of it; "" if nothing does."""
    return next(filter(None, map(_digest_of_file, _MACHINE_ID_FILES)), "")


@cache
def _boot() -> str:
    """Distinguishes this boot of the machine from the one before; "" if nothing does (macOS)."""
    return _digest_of_file(_BOOT_ID_FILE)


def _digest_of_file(path: str) -> str:
    """A digest, because the id itself must not be shown to others."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if text := file.read(limits.SIDECAR_BYTES).strip():
            return digest_of(b"miros-cache-net", text)[:16]
    return ""


#: Parsed records by their text: usually a process reads the record that it wrote last itself.
_known: dict[bytes, Sidecar] = {}
_RECORDS_KNOWN = 16


def _remember(text: bytes, record: Sidecar) -> Sidecar:
    if len(_known) >= _RECORDS_KNOWN:
        _known.clear()
    _known[text] = record
    return record


def _parse(text: bytes) -> Sidecar:
    known = _known.get(text)
    if known is not None:
        return known
    value: Any = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    texts = {key: value.get(key) for key in ("node", "made_on", "holder", "digest")}
    mode = value.get("mode")
    if not all(isinstance(text, str) for text in texts.values()) or type(mode) is not int:
        raise ValueError("not a record")
    if not is_node_name(str(texts["node"])) or len(str(texts["digest"])) > _DIGEST_DIGITS:
        raise ValueError("not a node name, or not a digest")
    clock, discovery = Stamp.parse(value.get("clock")), _times(value.get("discovery"))
    # format 1 kept one stamp for both
    newest = Stamp.parse(value["newest"]) if "newest" in value else clock
    boot = str(value.get("boot", ""))
    record = Sidecar(mode=mode & 0o777, newest=newest, clock=clock, discovery=discovery, boot=boot, **texts)  # type: ignore[arg-type]
    return _remember(text, record)


def _times(value: object) -> tuple[int, int]:
    """The two times of `value`; `NEVER` if a record predates this field or its value is invalid."""
    if isinstance(value, list) and [type(each) for each in value] == [int, int]:
        begun_ms, ended_ms = value
        if 0 <= min(value) <= max(value) <= limits.STAMP_WALL_MS:
            return begun_ms, ended_ms
    return NEVER
