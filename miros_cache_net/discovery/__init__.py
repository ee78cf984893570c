"""Finds the machines nearby that have a broker this program may use.

In come this machine's networks, a hosts file or a list of addresses, and the cached result of earlier discoveries.  Out
come signals: each address's verdict, and the brokers to dial.  The charts decide when to act; plain objects do the
work.  This package does not know how hosts synchronise: it asks a fleet through the callables passed to a chart.

    lan, lan_recce, man_net, scout   the charts: from the cache or by a recce; many addresses; a hosts file; one address
    sweep/                           which addresses are worth a scout
    probe/                           whether one address has a broker that this program may use
    peers                            how a peer is named and logged into, and whether it may get the password
"""
