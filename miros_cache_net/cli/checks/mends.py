"""The remedy for each problem that `doctor`, `status` and `top` can find.

An error of a broker or of a disk brings its own remedy (`CacheNetError.mend`), which fits the case better.
"""

from __future__ import annotations

from typing import Final

_SET_CLOCK: Final = "set the clock there (chrony, NTP), or on this machine, whichever is wrong"

#: By the name of a check: those of this machine, and those that a node reports of itself (`fleet.health`).
MENDS: Final = {
    # this machine
    "settings": "correct that setting; `miros-cache-net settings` shows each value and its source",
    "variable": "correct its name; `miros-cache-net settings` lists all settings",
    "key": "copy the key file of another host of the fleet to this one; on a fleet's first host, run "
    "`miros-cache-net key new`",
    "directory": "create a directory of your own, and set MIROS_CACHE_FILE to a file in it",
    "file": "inspect it, then correct it or move it away; the next write creates a new one",
    "lock": "run `chmod u+w` on the cache file, or leave it to the next write",
    "modes": "run `chmod o-rwx` on it",
    "sharing": "give it the directory's group, and make it writable for the group",
    "set aside": "inspect these files, then remove them",
    "stamps": "set this machine's clock, or that of the host that wrote the document (chrony, NTP)",
    "expiry": "if it should expire, add `time_out_in_minutes`, for example with `miros-cache-net update "
    "time_out_in_minutes=30`",
    "bridge": "continue its process (`kill -CONT`), or end it (`kill -9`): another process takes over at once",
    "broker": "start the broker, or correct MIROS_CACHE_AMQP_URL",
    "login": "correct MIROS_CACHE_AMQP_URL, or RABBIT_USER and RABBIT_PASSWORD",
    "vhost": "correct MIROS_CACHE_AMQP_URL, or create the virtual host on the broker",
    "exchange": "delete the exchange on the broker, or name another one in MIROS_CACHE_EXCHANGE",
    "cluster": "name the nodes of one cluster in MIROS_CACHE_AMQP_URL, or join them to one cluster (one Erlang cookie, "
    "`rabbitmqctl cluster_status`)",
    "messages": "free memory or disk space on the broker (`rabbitmq-diagnostics alarms`), or restart it if it hangs",
    # the fleet
    "answers": "compare `miros-cache-net key list` here and on a host of the fleet, and copy that host's key file to "
    "this one if they differ; if they agree, run `miros-cache-net doctor` there",
    "silent": "run `miros-cache-net doctor` there, and compare `miros-cache-net key list` across the hosts",
    "refused": "find the host with another key: compare `miros-cache-net key list` across the hosts",
    "documents": "run `miros-cache-net status` again in a minute: digests repair differences; if they stay, compare "
    "clocks and keys, then write the whole document once (`miros-cache-net write`)",
    "release": "run one release of miros-cache-net on all hosts",
    "format": "run one release of miros-cache-net on all hosts",
    "keys": "copy one host's key file to all others; `miros-cache-net key rotate --fleet` guides you through the steps",
    "clocks": _SET_CLOCK,
    # what a node reports of itself
    "link": "run `miros-cache-net doctor` on that host: it names the step that fails",
    "canary": "free memory or disk space on its broker (`rabbitmq-diagnostics alarms`), or restart the broker "
    "if it hangs",
    "in step": "wait some seconds; if it persists, check that the host can write its file, and compare the keys",
    "understood": "copy the key file of a host that is in step to this one, and run one release everywhere",
    "clock": _SET_CLOCK,
    "caps": "write a smaller document once as a whole (`miros-cache-net write`), on any host",
    "disk": "free space on that disk, or mount it writable; the document is unharmed",
    "trouble": "do what the message says; `miros-cache-net doctor` on that host shows more",
}


def mend_of(check: str) -> str:
    """What to do if `check` fails."""
    return MENDS.get(check, MENDS["trouble"])
