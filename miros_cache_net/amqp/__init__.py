"""How do bytes get to the other hosts and back, for as long as a program runs?

Comes in: a topology (what to declare) and publications.  Goes out: deliveries and link events, on the link's own
thread.  A link reconnects for ever and redeclares everything each time.

Must not know: documents, scopes, keys, charts, the content of a message.

    link                         the interface of a broker to a node
    connection, link_thread      a link to RabbitMQ; the thread that carries links; `sharing` says which share one
    session, half                two connections, from opening to loss
    tenant, channels             one link on that thread; its channels on one session
    consumer, publisher          its channels per connection; `request_queue` and `lease` are optional
    canary, echo                 notice that nothing comes through the exchange, or not by the link's bindings
    topology                     what is declared, as a value from the link's user
    failures                     turns what pika and the broker say into one error that says how to fix it
    memory                       an in-memory broker, with the faults of a real one
"""
