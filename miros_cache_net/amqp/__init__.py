"""How do bytes get to the other hosts, and back, for as long as a program runs?

Comes in: a place (exchange, scope, document) and publications.  Goes out: deliveries, and news of the link, on a thread
of the link's own.  A link reconnects for ever and declares everything again.

Must not know: documents, keys, charts; what is in a message.

    link                         what a node wants of a broker: the interface
    connection, link_thread      a link to RabbitMQ, and its thread; `session`: one life of it
    consumer, publisher          the two connections of a session; `request_queue` and `lease`: what it can do without
    topology                     names and arguments of all that is declared
    failures                     what pika and the broker say, as one error with its mend
    memory                       the same in memory, with the faults of a real one
"""
