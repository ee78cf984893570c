"""What can Prometheus ask a node?

In: the numbers of `observe`, and the node's status.  Out: an HTTP endpoint.  It needs the extra [metrics]; a node
imports it only if metrics were requested.
"""
