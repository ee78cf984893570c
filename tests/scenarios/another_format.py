"""A host's program as of another release: it says and reads messages of a format that ours does not know."""

from __future__ import annotations

from miros_cache_net.testing import host_program
from miros_cache_net.wire import envelope

if __name__ == "__main__":
    envelope.VERSION = 99  # type: ignore[misc]
    host_program.run()
