"""Checks whether there is a RabbitMQ at an address that this program may use.

In come an address, a login, and perhaps a challenge for a node of this fleet.  Out comes one verdict, which names the
step that failed.  This package knows no chart and no document, and sends the password only where the target allows it.

    prober   the interface of this package: any number of probes at once; `worker`: their one thread
    target   a probe's target, made from a peer and the settings
    steps    one probe, with a reason for failure at each step; `dial` knows no AMQP, `handshake` no reasons
    verdict  the target and the result, as values
"""
