"""How does a statechart on `miros` run for years?  `miros`, hardened: its known traps are solved here, once.

Comes in: states, their handlers, and events from any thread.  Goes out: handlers called one after the other on the
chart's own thread, events for other charts of the process, what the spy and the trace show, and `CACHE_ERROR` where
a handler fails or a queue is full.

Must not know: caches, files, the network; who builds a chart, and what for.
"""
