"""How does a statechart on `miros` run for years?  This room hardens `miros`: its known traps are solved here, once.

In come states, their handlers, and events from any thread.  Out go handler calls, one after the other on the chart's
own thread, events for other charts of the process, spy and trace lines, and `CACHE_ERROR` if a handler fails or a
queue is full.

Must not know: caches, files, the network; which program builds a chart, and for what.
"""
