"""A program with a link forks, and is killed: the broker must notice at once, whatever the child does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from miros_cache_net.testing import RabbitServer, wait_until

PROGRAM = """
import os, sys, time
from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings.broker_address import BrokerAddress

class Listener:
    def link_up(self, up):
        open(sys.argv[2], "w").close()
    def link_down(self, error): ...
    def delivered(self, delivery): ...

RabbitLink(document_topology(Place("forking", "s", "d")), [BrokerAddress.parse(sys.argv[1])]).start(Listener())
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
child = os.fork()
if child:
    with open(sys.argv[3] + ".new", "w") as stream:
        stream.write(str(child))
    os.rename(sys.argv[3] + ".new", sys.argv[3])
time.sleep(60)
"""


def test_forked_child_does_not_keep_parents_link_alive(tmp_path: Path, rabbit_server: RabbitServer) -> None:
    up, child_file = tmp_path / "up", tmp_path / "child"
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, rabbit_server.url, str(up), str(child_file)])
    try:
        wait_until(child_file.exists, timeout_s=30, what="the fork")
        before = rabbit_server.connection_count()
        program.kill()
        program.wait()
        wait_until(lambda: rabbit_server.connection_count() <= before - 2, what="the broker to notice")
    finally:
        program.kill()
        program.wait()
        os.kill(int(child_file.read_text()), signal.SIGKILL)
