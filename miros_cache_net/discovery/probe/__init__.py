"""Is there a RabbitMQ at this address that we may use?

In come an address, who logs in there, and perhaps a question for a node of ours.  Out comes one verdict, which names
the step that said no.  `prober` is the room's face; all its probes live on one thread.  No chart and no document is
known here, and the password goes nowhere that the target does not allow.
"""
