"""Sentries in the flat style: one sees something, all raise the alarm.

An event that carries its sender's name as payload comes back to no chart of that name.  Start a few:

    export RABBIT_USER=guest RABBIT_PASSWORD=guest
    export MESH_ENCRYPTION_KEY=$(openssl rand -base64 32 | tr +/ -_)
    python networked_active_object.py alpha & python networked_active_object.py beta

Under `miros-rabbitmq` the same program has another import line: `from miros_rabbitmq import NetworkedActiveObject`.
"""

import os
import random
import sys
import time

from miros.event import Event, return_status, signals
from miros.hsm import spy_on

from miros_cache_net.mesh import NetworkedActiveObject


@spy_on
def watching(sentry, e):
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        sentry.post_fifo(Event(signal=signals.seen), times=1, period=random.uniform(1.0, 2.0), deferred=True)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        sentry.cancel_events(Event(signal=signals.seen))
        status = return_status.HANDLED
    elif e.signal == signals.seen:
        sentry.transmit(Event(signal=signals.ALARM, payload=sentry.name))
        status = sentry.trans(alarmed)
    elif e.signal == signals.ALARM:
        status = sentry.trans(alarmed)
    else:
        sentry.temp.fun = sentry.top
        status = return_status.SUPER
    return status


@spy_on
def alarmed(sentry, e):
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        sentry.post_fifo(Event(signal=signals.all_clear), times=1, period=0.3, deferred=True)
        status = return_status.HANDLED
    elif e.signal == signals.all_clear:
        status = sentry.trans(watching)
    else:
        sentry.temp.fun = sentry.top
        status = return_status.SUPER
    return status


name = sys.argv[1] if len(sys.argv) > 1 else f"sentry-{os.getpid()}"
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60

sentry = NetworkedActiveObject(
    name,
    os.environ["RABBIT_USER"],
    os.environ["RABBIT_PASSWORD"],
    os.environ["MESH_ENCRYPTION_KEY"].encode(),
)
sentry.enable_snoop_trace()
sentry.enable_snoop_spy()
sentry.start_at(watching)
sentry.snoop_scribble(sentry.this_url())
time.sleep(seconds)
sentry.stop()
