"""Fireflies: statecharts of several programs that light up together, each seen in everybody's trace.

Start a few, on one host or on several, with the same user, password and key in the environment:

    export RABBIT_USER=guest RABBIT_PASSWORD=guest
    export MESH_ENCRYPTION_KEY=$(openssl rand -base64 32 | tr +/ -_)
    python networked_factory.py alpha & python networked_factory.py beta

Under `miros-rabbitmq` the same program has another import line: `from miros_rabbitmq import NetworkedFactory`.
"""

import os
import random
import sys
import time

from miros.event import Event, return_status, signals

from miros_cache_net.mesh import NetworkedFactory


def dark_entry(firefly, e):
    firefly.post_fifo(Event(signal=signals.flash), times=1, period=random.uniform(1.0, 2.0), deferred=True)
    return return_status.HANDLED


def dark_exit(firefly, e):
    firefly.cancel_events(Event(signal=signals.flash))
    return return_status.HANDLED


def dark_flash(firefly, e):
    """Nobody was quicker: the others are to light up too."""
    firefly.transmit(Event(signal=signals.LIT, payload=firefly.name))
    return firefly.trans(lit)


def dark_LIT(firefly, e):
    firefly.snoop_scribble(f"{e.payload} was first")
    return firefly.trans(lit)


def lit_entry(firefly, e):
    firefly.post_fifo(Event(signal=signals.fade), times=1, period=0.3, deferred=True)
    return return_status.HANDLED


def lit_fade(firefly, e):
    return firefly.trans(dark)


name = sys.argv[1] if len(sys.argv) > 1 else f"firefly-{os.getpid()}"
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60

firefly = NetworkedFactory(
    name,
    rabbit_user=os.environ["RABBIT_USER"],
    rabbit_password=os.environ["RABBIT_PASSWORD"],
    mesh_encryption_key=os.environ["MESH_ENCRYPTION_KEY"].encode(),
    tx_routing_key="meadow.firefly",
    rx_routing_key="meadow.*",
)

dark = firefly.create(state="dark"). \
    catch(signal=signals.ENTRY_SIGNAL, handler=dark_entry). \
    catch(signal=signals.EXIT_SIGNAL, handler=dark_exit). \
    catch(signal=signals.flash, handler=dark_flash). \
    catch(signal=signals.LIT, handler=dark_LIT). \
    to_method()
lit = firefly.create(state="lit"). \
    catch(signal=signals.ENTRY_SIGNAL, handler=lit_entry). \
    catch(signal=signals.fade, handler=lit_fade). \
    to_method()
firefly.nest(dark, parent=None).nest(lit, parent=None)

firefly.enable_snoop_trace()
firefly.start_at(dark)
time.sleep(seconds)
firefly.stop()
