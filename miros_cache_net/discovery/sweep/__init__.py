"""Which addresses are worth a scout?

In come this machine's networks and its neighbour table.  Out come the addresses that take a TCP connection on a port.
Nothing of AMQP, of charts or of a document is known here.
"""
