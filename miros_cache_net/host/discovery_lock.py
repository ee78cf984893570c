"""Which process of this host discovers: the one that has the kernel's lock on a file beside the document."""

from __future__ import annotations

from pathlib import Path


def discovery_lock_path(document: Path) -> Path:
    """The lock file that whoever discovers for `document` holds while it does (see `store.kernel_lock.KernelLock`)."""
    return document.with_name(f".{document.name.lstrip('.')}.discovery.lock")
