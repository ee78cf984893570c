"""How do the hosts of a fleet keep one document in step?

Comes in: trusted messages, the file's current document, questions from this host's processes.  Goes out, through
narrow ports: messages to send, documents to merge, answers, reports to users.  Plain objects, so a simulator can run
them too.

Must not know: threads, sockets, RabbitMQ, files.

    standing, clock_vote         does this host understand the others, and does its clock agree with theirs
    health                       what the host reports about itself when `health` asks
    replica                      joining, spreading and repair; `trickle` and `pace` say when
    digest, joiners              what a host announces about its document, and to which joining hosts
    open_requests, answer_rate   which answers count, and how many are given
    refused_documents            documents that exceed a cap when merged with this host's
    questions, fleet_lease       asking the fleet; which host may discover
    place, links                 where a document's messages go and what its link declares; the link itself
    node_events                  every private event of a node
    bridge                       all of it assembled for one host
    fleet_client                 `questions` over its own link, for commands
"""
