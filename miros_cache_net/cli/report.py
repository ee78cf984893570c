"""The file of `doctor --report`: what a maintainer needs to know of a machine and its fleet, without secrets."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from miros_cache_net.cli.checks.finding import Finding
from miros_cache_net.errors import CacheNetError, SettingsError
from miros_cache_net.node_status import NodeStatus
from miros_cache_net.release import release

_LIBRARIES: Final = ("miros", "pika", "cryptography", "click", "rich", "pydantic-settings", "psutil", "miros-rabbitmq")
_HIDDEN: Final = "**********"


def write_report(
    to: Path, findings: Sequence[Finding], nodes: Sequence[NodeStatus], path: Path | None
) -> Path:  # fmt: skip
    """Write the report to a new file and return its path: `to`, or a file in it if it is a directory.

    Raises `SettingsError` if the file exists or cannot be made.
    """
    name = f"miros-cache-net-report-{time.strftime('%Y%m%d-%H%M%S')}"
    target = (to / f"{name}.tar.gz" if to.is_dir() else to).absolute()
    parts = {
        "about.json": _about(),
        "doctor.json": [finding._asdict() for finding in findings],
        "nodes.json": list(nodes),
        "health.json": _health(path),
        "settings.json": _settings(),
    }
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"{target}: {error.strerror}; name another file after --report") from None
    with open(descriptor, "wb") as file:
        file.write(_packed(name, parts, _secrets()))
    return target


def _packed(name: str, parts: Mapping[str, Any], secrets: Iterable[str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for part, value in parts.items():
            text = json.dumps(value, indent=1, default=str)
            for secret in secrets:
                text = text.replace(json.dumps(secret)[1:-1], _HIDDEN)
            entry = tarfile.TarInfo(f"{name}/{part}")
            entry.size, entry.mtime, entry.mode = len(text.encode()), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def _about() -> dict[str, Any]:
    return {
        "release": release(),
        "python": sys.version,
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def _health(path: Path | None) -> dict[str, Any] | None:
    from miros_cache_net.cli.health import judged

    return None if path is None else judged(path, 0.0)


def _settings() -> Any:
    from miros_cache_net.cli.settings import effective_settings

    try:
        return effective_settings()
    except CacheNetError as error:
        return {"error": str(error)}


def _secrets() -> set[str]:
    """Every secret of the settings: what is shown holds none, and this has it stay so."""
    from miros_cache_net.settings import Settings

    try:
        settings = Settings.load()
        keys = {key.decode() for key in settings.load_keys()}
    except CacheNetError:
        return set()
    passwords = {settings.rabbit_password.get_secret_value(), *(url.password.reveal() for url in settings.amqp_urls)}
    snoop = {settings.snoop_trace_key.get_secret_value(), settings.snoop_spy_key.get_secret_value()}
    # the default is no secret, and is the user's name too
    return {secret for secret in keys | passwords | snoop if secret and secret != "guest"}
