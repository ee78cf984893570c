"""The files of a fleet in containers: Compose, image and what goes into it, for one program on N hosts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from miros_cache_net.errors import SettingsError

#: A name that neither YAML, a Dockerfile nor a shell reads as anything else.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_COMPOSE: Final = """\
# {count} hosts{what}, and their RabbitMQ.  Made by `miros-cache-net compose init`; yours to change.
#
#   docker compose up --build        (docker-compose, where that is what the machine has)
#   docker compose exec {first} miros-cache-net status
#   docker compose down --volumes
#
# It builds on the image `miros-cache-net` (NODE_IMAGE names another): `docker build -t miros-cache-net .` in a clone.

x-logging: &logging
  driver: json-file
  options: {{max-size: 10m, max-file: "3"}}

x-host: &host
  {image}
  environment:
    MIROS_CACHE_AMQP_URL: amqp://rabbitmq:5672
    MIROS_CACHE_FILE: /var/lib/miros-cache-net/{file}
    MIROS_CACHE_KEYS_FILE: /etc/miros-cache-net/keys
    RABBIT_USER: fleet
    RABBIT_PASSWORD_FILE: /etc/miros-cache-net/rabbit-password
    # Where Docker puts its networks: peers there may be told the password without TLS.
    MIROS_CACHE_TRUSTED_NETWORKS: 172.16.0.0/12,192.168.0.0/16
  depends_on:
    rabbitmq: {{condition: service_healthy}}
  init: true
  restart: unless-stopped
  stop_grace_period: 15s
  read_only: true
  tmpfs: [/tmp]
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  mem_limit: ${{HOST_MEMORY:-256m}}
  pids_limit: 200
  logging: *logging
  healthcheck:
    test: [CMD, miros-cache-net, health]
    interval: 4s
    timeout: 10s
    retries: 5
    start_period: 60s

services:
  # Makes the fleet's key and the broker's password, once.
  keys:
    image: ${{NODE_IMAGE:-miros-cache-net}}
    entrypoint: [python3, /opt/make_secrets.py]
    command: []
    network_mode: none
    init: true
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    mem_limit: 256m
    pids_limit: 200
    logging: *logging
    healthcheck: {{disable: true}}
    volumes:
      - keys:/etc/miros-cache-net
      - broker-config:/etc/rabbitmq/conf.d

  rabbitmq:
    image: ${{RABBITMQ_IMAGE:-rabbitmq:4}}
    hostname: rabbitmq
    depends_on:
      keys: {{condition: service_completed_successfully}}
    restart: unless-stopped
    stop_grace_period: 60s
    ulimits: {{nofile: 16384}}
    mem_limit: ${{RABBITMQ_MEMORY:-1g}}
    pids_limit: 1000
    logging: *logging
    healthcheck:
      test: [CMD, rabbitmq-diagnostics, --quiet, check_port_connectivity]
      interval: 8s
      timeout: 30s
      retries: 15
    volumes:
      - broker-config:/etc/rabbitmq/conf.d:ro
      - broker-data:/var/lib/rabbitmq
{hosts}
volumes:
  keys: {{}}
  broker-config: {{}}
  broker-data: {{}}
{volumes}"""

_HOST: Final = """
  {name}:
    <<: *host
    hostname: {name}{build}
    volumes:
      - keys:/etc/miros-cache-net:ro
      - {name}:/var/lib/miros-cache-net
"""

_DOCKERFILE: Final = """\
# One image for every host: a node's, and the Python files of this directory.  It holds no key and no password.
ARG NODE_IMAGE=miros-cache-net
{requirements}
FROM ${{NODE_IMAGE}}
{packages}COPY . /opt/program/
ENTRYPOINT ["python3", "/opt/program/{program}"]
CMD []
"""

_REQUIREMENTS: Final = """\
# The base of that image: what is compiled is compiled for its Python.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${{PYTHON_IMAGE}} AS packages
COPY {requirements} /
RUN python3 -m venv /opt/pip \\
 && /opt/pip/bin/pip install --quiet --no-cache-dir --target /opt/packages -r /{requirements}
"""

_DOCKERIGNORE: Final = """\
# Only what the program is made of: no keys, no settings, no history.
*
!**/*.py
{requirements}"""


@dataclass(frozen=True)
class ComposeFiles:
    """The files by their names, for `hosts` that run `program`, or a node where there is none.

    program        name of a Python file that builds a `CacheNode`
    requirements   name of a file of its dependencies, for pip
    file           name of the cache file that it uses

    Raises `SettingsError` for a name that one of the files cannot hold as it is.
    """

    hosts: Sequence[str]
    program: str = ""
    requirements: str = ""
    file: str = "cache.json"

    def __post_init__(self) -> None:
        for name in filter(None, (self.program, self.requirements, self.file)):
            if not _PLAIN.fullmatch(name):
                raise SettingsError(f"{name!r}: use letters, digits, `_`, `-` and `.` only, and no directory")

    def texts(self) -> dict[str, str]:
        texts = {"docker-compose.yml": self._compose()}
        if self.program:
            texts["Dockerfile"] = self._dockerfile()
            wanted = f"!{self.requirements}\n" if self.requirements else ""
            texts[".dockerignore"] = _DOCKERIGNORE.format(requirements=wanted)
        return texts

    def _compose(self) -> str:
        image = "image: ${NODE_IMAGE:-miros-cache-net}"
        if self.program:
            stem = self.program.removesuffix(".py").lower().strip("._-")
            image = f"image: ${{HOST_IMAGE:-{stem}-host}}"
        # of all that have the image only one makes it
        builds = [self._build() if self.program else "", *[""] * len(self.hosts)]
        hosts = [_HOST.format(name=name, build=build) for name, build in zip(self.hosts, builds, strict=False)]
        return _COMPOSE.format(
            count=len(self.hosts),
            what=f" that run {self.program}" if self.program else "",
            first=self.hosts[0],
            image=image,
            file=self.file,
            hosts="".join(hosts),
            volumes="".join(f"  {name}: {{}}\n" for name in self.hosts),
        )

    def _build(self) -> str:
        lines = ["build:", "  context: .", "  args:", "    NODE_IMAGE: ${NODE_IMAGE:-miros-cache-net}"]
        if self.requirements:
            lines.append("    PYTHON_IMAGE: ${PYTHON_IMAGE:-python:3.12-slim}")
        return "".join(f"\n    {line}" for line in lines)

    def _dockerfile(self) -> str:
        made, copied = "", ""
        if self.requirements:
            made = _REQUIREMENTS.format(requirements=self.requirements)
            copied = "COPY --from=packages /opt/packages /opt/packages\nENV PYTHONPATH=/opt/packages\n"
        return _DOCKERFILE.format(requirements=made, packages=copied, program=self.program)
