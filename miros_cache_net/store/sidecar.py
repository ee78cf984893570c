"""The record in the lock file beside the document: who holds it, who we are, what we wrote last.

The lock file is created once, never replaced and never deleted, because `flock` belongs to an inode.
Its text is one padded line of JSON, written in place by one system call while the lock is held.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from functools import cache

from miros_cache_net import limits
from miros_cache_net.document.layout import digest_of
from miros_cache_net.document.value import ZERO, Stamp, is_node_name
from miros_cache_net.errors import DocumentError
from miros_cache_net.settings.environment import variable
from miros_cache_net.store.paths import beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    from miros_cache_net.named_tuple import NamedTuple

_MACHINE_ID_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
NEVER = (0, 0)


def sidecar_path(document: str) -> str:
    """The lock file of a document: hidden, in the same directory, no other document's."""
    return beside(document, f".{os.path.basename(document)}.lock")


class Sidecar(NamedTuple):
    """The lock file's record.

    node     this host's name in stamps; made once for each document
    made_on  device, inode and machine for which `node` was made: a copy gets a name of its own
    holder   process in exclusive access, "" if none: lock free and holder named means that it died or failed
    mode     permission bits that the holder has to give back to the document
    digest   version of the document that we wrote last
    newest   greatest stamp in it
    clock    greatest stamp seen or given, also of what was not stored
    discovery  when this host last discovered it, by its own clock: begun and ended, ms since 1970
    """

    node: str
    made_on: str
    holder: str = ""
    mode: int = 0
    digest: str = ""
    newest: Stamp = ZERO
    clock: Stamp = ZERO
    discovery: tuple[int, int] = NEVER

    def marked(self, mode: int) -> Sidecar:
        return self._replace(holder=f"{os.uname().nodename}:{os.getpid()}", mode=mode)

    def stored(self, digest: str, newest: Stamp) -> Sidecar:
        """After a replacement."""
        return self._replace(digest=digest, newest=newest, clock=max(newest, self.clock))

    def saw(self, stamp: Stamp) -> Sidecar:
        """After this stamp was met or given, whatever became of it: the next one is later.  The clock never falls."""
        return self if stamp <= self.clock else self._replace(clock=stamp)

    def cleared(self) -> Sidecar:
        """What a holder leaves behind."""
        return self._replace(holder="", mode=0)


def read_sidecar(fd: int, node_name: str | None = None) -> Sidecar:
    """The record behind `fd`; a new one where it is empty or broken, with another name where it is a copy."""
    status = os.fstat(fd)
    made_on = f"{status.st_dev}:{status.st_ino}:{_machine()}"
    try:
        record = _parse(os.pread(fd, limits.SIDECAR_BYTES, 0))
    except (ValueError, DocumentError):
        return Sidecar(new_node_name(node_name), made_on)
    if record.made_on == made_on:
        return record
    readable = node_name or record.node.rpartition("-")[0]
    return record._replace(node=new_node_name(readable), made_on=made_on)


def last_discovery(document: str) -> tuple[int, int]:
    """`Sidecar.discovery` of the document at that path, read without a lock; `NEVER` where there is none."""
    try:
        fd = os.open(sidecar_path(document), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return NEVER
    try:
        return _parse(os.pread(fd, limits.SIDECAR_BYTES, 0)).discovery
    except (OSError, ValueError, DocumentError):
        return NEVER
    finally:
        os.close(fd)


def write_sidecar(fd: int, record: Sidecar) -> None:
    """Write the record in place, in one call."""
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
        }
    )
    line = text.encode().ljust(limits.SIDECAR_BYTES - 1) + b"\n"
    os.pwrite(fd, line, 0)
    _remember(line, record)


def new_node_name(name: str | None = None) -> str:
    """A name for stamps: readable part (given, or from the environment, or the host's) and 8 random digits."""
    readable = name or variable("MIROS_CACHE_NODE_NAME") or os.uname().nodename
    slug = re.sub(r"[^a-z0-9]+", "-", readable.lower()).strip("-")[: limits.NODE_NAME_BYTES - 9].rstrip("-")
    return f"{slug or 'node'}-{os.urandom(4).hex()}"


@cache
def _machine() -> str:
    """What tells this machine from a clone of it, "" if nothing does.  A digest: the id itself is for nobody else."""
    for path in _MACHINE_ID_FILES:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if text := file.read(limits.SIDECAR_BYTES).strip():
                return digest_of(b"miros-cache-net", text)[:16]
    return ""


#: Mostly this process wrote last what it reads next.
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
        raise ValueError("no object")
    texts = {key: value.get(key) for key in ("node", "made_on", "holder", "digest")}
    mode = value.get("mode")
    if not all(isinstance(text, str) for text in texts.values()) or type(mode) is not int:
        raise ValueError("no record")
    if not is_node_name(str(texts["node"])):
        raise ValueError("no node name")
    clock, discovery = Stamp.parse(value.get("clock")), _times(value.get("discovery"))
    # format 1 kept one stamp for both
    newest = Stamp.parse(value["newest"]) if "newest" in value else clock
    record = Sidecar(mode=mode & 0o777, newest=newest, clock=clock, discovery=discovery, **texts)  # type: ignore[arg-type]
    return _remember(text, record)


def _times(value: object) -> tuple[int, int]:
    """Records of before this field have none; and what is no time says nothing."""
    if isinstance(value, list) and len(value) == 2 and all(type(each) is int and each >= 0 for each in value):
        return value[0], value[1]
    return NEVER
