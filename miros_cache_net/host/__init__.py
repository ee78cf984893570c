"""Which process of this host talks to the fleet, and how do the others hear of it?

In come a document's path and the identity of its fleet.  Out go one bridge per host, whose lock the kernel takes from
a process that dies, and, through a Unix socket beside it, notices to the followers, their questions and the answers.

Must not know: RabbitMQ, how the fleet is asked.

    bridge_lock            which process is the bridge
    socket, follower       the two ends; `messages`: their protocol, `admission`: the peers they accept
    asking, questions      the one way to ask the fleet, through anything that takes a question
    stranger               questions to the bridge from a program that is not a follower
"""
