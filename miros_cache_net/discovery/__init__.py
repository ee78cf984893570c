"""Which machines around here have a broker that we may use?

In come this machine's networks, a hosts file or a list of addresses, and what the cache knows of earlier looks.  Out
come signals: what each address answered, and the brokers to dial.  The charts decide when; plain objects do what.  How
hosts keep in step is not known here: a fleet is asked through the callables that a chart is given.

    lan, lan_recce, man_net, scout   the charts: from the cache or by a recce; many addresses; a hosts file; one address
    sweep/                           which addresses are worth a scout
    probe/                           is there a broker at this one address that we may use
    peers                            how a peer is named and logged into, and whether it may be told the password
"""
