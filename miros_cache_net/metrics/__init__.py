"""What can Prometheus ask of a node?

In: the numbers of `observe`, and the node's status.  Out: an endpoint.  It needs the extra [metrics], and only a node
that was asked for metrics imports it.
"""
