"""How do the hosts of a fleet keep one document in step?

Comes in: trusted messages, the file's present document, questions of this host's processes.  Goes out, through narrow
ports: messages to send, documents to merge, answers, what to tell the users.  Plain objects; a simulator runs them too.

Must not know: threads, sockets, RabbitMQ, files.

    replica                      joining, spreading, repairing; `trickle` and `pace`: when
    digest, joiners              what a host says of its document; who is told by it
    open_requests, answer_rate   which answers count; how many are given
    refused_documents            what passes a cap together with this host's document
    questions, fleet_lease       asking the fleet; who may discover
    bridge                       all of it for one host, put together; `fleet_client`: asking from outside
"""
