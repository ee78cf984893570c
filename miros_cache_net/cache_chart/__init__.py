"""Which of those who ask has the cache file now?  `CacheFileChart`, which guards one file.

Comes in: `CACHE_FILE_READ`, `CACHE_FILE_WRITE` and `CACHE_DESTROY`, from any chart or thread of the process, and the
kernel's news that the file has changed.  Goes out: `CACHE`, which hands on what was stored, and `CACHE_ERROR`.

The chart decides when; `store` does what.  Must not know: the network, other hosts, who asks and why.
"""
