"""Which request gets the cache file now?  `CacheFileChart` decides; it guards one file.

In come `CACHE_FILE_READ`, `CACHE_FILE_WRITE` and `CACHE_DESTROY`, from any chart or thread of the process, and the
kernel's notice that the file has changed.  Out go `CACHE`, which carries the stored document, and `CACHE_ERROR`.

The chart decides when; `store` does what.  Must not know: the network, other hosts, which program asks and why.
"""
