"""The table of mends: what to do about each thing that `doctor`, `status` and `top` may find wrong.

An error of a broker or of a disk brings a remedy of its own (`CacheNetError.mend`), which knows more of the case.
"""

from __future__ import annotations

from typing import Final

_SET_CLOCK: Final = "set the clock there (chrony, NTP), or this machine's if that is the one which is wrong"

#: By the name of a check: those of this machine, and those that a node reports of itself (`fleet.health`).
MENDS: Final = {
    # this machine
    "settings": "correct that setting; `miros-cache-net settings` shows each, and where it comes from",
    "variable": "spell it as the setting is spelt; `miros-cache-net settings` shows all",
    "key": "run `miros-cache-net key new`, or copy the key file of another host of the fleet to this one",
    "directory": "name a directory of your own in MIROS_CACHE_FILE, and create it",
    "file": "look at it, then move it away or correct it; the next write makes a new one",
    "lock": "`chmod u+w` the cache file, or leave it to the next write",
    "modes": "`chmod o-rwx` it",
    "sharing": "give it the directory's group, and let the group write",
    "set aside": "look at these files, then remove them",
    "stamps": "set this clock, or that of the host that wrote the document (chrony, NTP)",
    "expiry": "if it should expire, add `time_out_in_minutes`, for example with `miros-cache-net update "
    "time_out_in_minutes=30`",
    "bridge": "`kill -CONT` its process, or end it (`kill -9`): another takes over at once",
    "broker": "start it there, or correct MIROS_CACHE_AMQP_URL",
    "login": "correct MIROS_CACHE_AMQP_URL, or RABBIT_USER and RABBIT_PASSWORD",
    "vhost": "correct MIROS_CACHE_AMQP_URL, or make the virtual host there",
    "exchange": "delete it there, or name another in MIROS_CACHE_EXCHANGE",
    "cluster": "name the nodes of one cluster in MIROS_CACHE_AMQP_URL, or have them join (one Erlang cookie, "
    "`rabbitmqctl cluster_status`)",
    "messages": "free memory or disk at the broker (`rabbitmq-diagnostics alarms`), or restart it if it hangs",
    # the fleet
    "answers": "start `miros-cache-net node` on a host, and compare `miros-cache-net key list` across the hosts",
    "silent": "run `miros-cache-net doctor` there, and compare `miros-cache-net key list` across the hosts",
    "refused": "find the host with another key: compare `miros-cache-net key list` across the hosts",
    "documents": "look at `miros-cache-net status` again in a minute: digests repair it; if it stays, compare clocks "
    "and keys, then write the document once as a whole (`miros-cache-net write`)",
    "release": "run one release of miros-cache-net on all hosts",
    "format": "run one release of miros-cache-net on all hosts",
    "keys": "bring the key file of one host to all others; `miros-cache-net key rotate --fleet` does it in steps",
    "clocks": _SET_CLOCK,
    # what a node reports of itself
    "link": "run `miros-cache-net doctor` on that host: it names the step that fails",
    "canary": "free memory or disk at its broker (`rabbitmq-diagnostics alarms`), or restart the broker if it hangs",
    "in step": "wait some seconds; if it stays, look whether that host can write its file, and compare the keys",
    "understood": "copy the key file of a host that is in step to it, and run one release everywhere",
    "clock": _SET_CLOCK,
    "caps": "write the document once as a whole, smaller (`miros-cache-net write`), on any host",
    "disk": "free space on that disk, or mount it writable; the document is unchanged",
    "trouble": "do what it says there; `miros-cache-net doctor` on that host tells more",
}


def mend_of(check: str) -> str:
    """What to do where `check` fails."""
    return MENDS.get(check, MENDS["trouble"])
