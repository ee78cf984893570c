"""The record in the lock file beside the document: who holds it, who we are, what we wrote last.

The lock file is created once, never replaced and never deleted, because `flock` belongs to an inode.
Its text is one padded line of JSON, written in place by one system call while the lock is held.
"""

from __future__ import annotations

import json
import os
import re

from miros_cache_net import limits
from miros_cache_net.document import ZERO, Stamp, is_node_name
from miros_cache_net.errors import DocumentError
from miros_cache_net.settings.environment import variable
from miros_cache_net.store.paths import beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    from miros_cache_net.named_tuple import NamedTuple


def sidecar_path(document: str) -> str:
    """The lock file of a document: hidden, in the same directory, no other document's."""
    return beside(document, f".{os.path.basename(document)}.lock")


class Sidecar(NamedTuple):
    """The lock file's record.

    node     this host's name in stamps; made once for each document
    made_on  host and inode for which `node` was made: a copied directory gets a name of its own
    holder   process in exclusive access, "" if none: lock free and holder named means that it died or failed
    mode     permission bits that the holder has to give back to the document
    digest   of the contents that we wrote last
    clock    greatest stamp seen or given
    """

    node: str
    made_on: str
    holder: str = ""
    mode: int = 0
    digest: str = ""
    clock: Stamp = ZERO

    def marked(self, mode: int) -> Sidecar:
        holder = f"{os.uname().nodename}:{os.getpid()}"
        return Sidecar(self.node, self.made_on, holder, mode, self.digest, self.clock)

    def stored(self, digest: str | None, clock: Stamp | None) -> Sidecar:
        """After a replacement; None keeps what is there, the clock never falls."""
        clock = max(clock or ZERO, self.clock)
        return Sidecar(self.node, self.made_on, self.holder, self.mode, digest or self.digest, clock)

    def cleared(self) -> Sidecar:
        """What a holder leaves behind."""
        return Sidecar(self.node, self.made_on, "", 0, self.digest, self.clock)


def read_sidecar(fd: int, node_name: str | None = None) -> Sidecar:
    """The record behind `fd`; a new one where it is empty, broken, or was copied from elsewhere."""
    made_on = f"{os.uname().nodename}:{os.fstat(fd).st_ino}"
    try:
        record = _parse(os.pread(fd, limits.SIDECAR_BYTES, 0))
    except (ValueError, DocumentError):
        return Sidecar(new_node_name(node_name), made_on)
    return record if record.made_on == made_on else record._replace(node=new_node_name(node_name), made_on=made_on)


def write_sidecar(fd: int, record: Sidecar) -> None:
    """Write the record in place, in one call."""
    text = json.dumps(
        {
            "node": record.node,
            "made_on": record.made_on,
            "holder": record.holder,
            "mode": record.mode,
            "digest": record.digest,
            "clock": str(record.clock),
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
    record = Sidecar(mode=mode & 0o777, clock=Stamp.parse(value.get("clock")), **texts)  # type: ignore[arg-type]
    return _remember(text, record)
