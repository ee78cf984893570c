"""What tests of every folder share."""

from __future__ import annotations

# known by its entry point where the package was installed since it has one
pytest_plugins = ["miros_cache_net.testing.fixtures"]
