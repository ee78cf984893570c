"""The cache file: exclusive access, atomic replacement, reading without a lock.  Layer 2, no miros."""
