"""Which process of this host talks to the fleet, and how do the others hear of it?

Comes in: a document's path and the identity of its fleet.  Goes out: one bridge a host, whose lock the kernel takes
from a process that dies; and through a Unix socket beside it notices to the followers, their questions, the answers.

Must not know: RabbitMQ, what a question means.

    bridge_lock            who is the bridge
    socket, follower       the two ends; `messages`: what they tell each other, `admission`: whom they talk to
    questions, asking      a question on its way to whoever can ask the fleet
"""
