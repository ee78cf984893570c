"""Finds the addresses that are worth a scout.

In come this machine's networks and its neighbour table.  Out come the addresses that accept a TCP connection on a port.
This package knows nothing of AMQP, charts or documents.

    survey      this machine's networks, on a thread of its own; `capacity`: how much of the machine it may use
    sweep       any addresses, on the caller's thread; the core of a survey, and the only part that opens connections
    neighbours  the kernel's neighbour table
"""
