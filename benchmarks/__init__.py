"""How fast the cache file is, beside what else one could use.  `python -m benchmarks --help`."""
