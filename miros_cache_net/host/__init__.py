"""What the processes of one host share beside the cache file: one of them is the bridge.  Layer 2."""
