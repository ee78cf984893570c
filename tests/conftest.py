"""What tests of every folder share."""

from __future__ import annotations

pytest_plugins = ["miros_cache_net.testing"]
