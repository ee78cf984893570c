"""The layers of the package: who may import whom, and who may import which library.

A new file needs a line in `LAYERS`; a new library needs one in `LIBRARIES` and one in pyproject.toml.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "miros_cache_net"

#: (pattern of the path below the package, layer, group).  The first pattern that fits counts.  A file imports
#: from lower layers, and from its own group: a folder, or a few files that make one thing.
LAYERS = [
    ("errors.py", 0, "errors"),
    ("limits.py", 0, "limits"),
    ("clock.py", 0, "clock"),
    ("named_tuple.py", 0, "named tuple"),
    ("logs.py", 0, "logs"),
    ("release.py", 0, "release"),
    ("payloads.py", 1, "payloads"),
    ("node_status.py", 1, "node status"),
    ("document/*", 1, "document"),
    ("settings/*", 1, "settings"),
    ("observe/*", 1.5, "observe"),
    ("events.py", 1, "events"),
    ("statechart/*", 2, "statechart"),
    *((f"{name}/*", 2, name) for name in ("store", "wire", "amqp", "host")),
    *((name, 2.5, "single flight") for name in ("single_flight.py", "one_discovery.py")),
    ("cache_chart/*", 3, "cache_chart"),
    ("fleet/*", 3, "fleet"),
    ("mesh/topology.py", 3, "mesh topology"),
    ("discovery/*", 4, "discovery"),
    ("metrics/*", 4, "metrics"),
    *((f"mesh/{name}", 6, "adapter") for name in ("adapter.py", "nets.py", "program.py", "stand_in/*", "__*__.py")),
    ("mesh/*", 4.5, "mesh"),
    *((name, 5, "node") for name in ("node.py", "node_port.py")),
    *((name, 6, "cache") for name in ("cache.py", "async_*.py", "discovered_once.py")),
    ("testing/*", 6.5, "testing"),
    ("view/*", 6.7, "view"),
    ("__pyinstaller/*", 0, "frozen programs"),
    *((name, 7, "cli") for name in ("cli/*", "__main__.py")),
    ("__init__.py", 8, "public names"),
]
#: Libraries, the distribution that brings each, and where they may be imported.
LIBRARIES = {
    "miros": (
        "miros",
        ["events.py", "statechart/*", "cache_chart/*", "discovery/*", "node.py", "mesh/*", "testing/*", "view/*"],
    ),
    "pika": ("pika", ["amqp/*", "discovery/probe/*"]),
    "cryptography": ("cryptography", ["wire/*"]),
    "miros_rabbitmq": ("miros-rabbitmq", ["mesh/*"]),
    "pydantic": ("pydantic-settings", ["settings/model.py", "settings/sources.py"]),
    "pydantic_settings": ("pydantic-settings", ["settings/model.py", "settings/sources.py"]),
    "dotenv": ("python-dotenv", ["settings/environment.py"]),
    "tomllib": ("tomli", ["settings/environment.py"]),
    "tomli": ("tomli", ["settings/environment.py"]),
    "inotify_simple": ("inotify-simple", ["store/inotify_watch.py"]),
    "watchdog": ("watchdog", ["store/observer_watch.py"]),
    "psutil": ("psutil", ["settings/networks.py"]),
    "click": ("click", ["cli/*"]),
    "rich": ("rich", ["cli/*"]),
    "prometheus_client": ("prometheus-client", ["metrics/*", "view/metrics_of_fleet.py"]),
    "pytest": ("pytest", ["testing/*"]),
    "starlette": ("starlette", ["view/*"]),
    "uvicorn": ("uvicorn", ["view/server.py"]),
    "PyInstaller": ("pyinstaller", ["__pyinstaller/*"]),
}
PLAIN = {"errors", "limits", "clock", "logs", "payloads", "node status", "document"}
#: Files that may need less than their layer allows: a plain client must stay cheap, a statechart knows of no cache.
ONLY_GROUPS = {
    "cache.py": {*PLAIN, "settings", "observe", "store", "host", "single flight", "cache"},
    "async_*.py": {*PLAIN, "store", "single flight", "cache"},
    "discovered_once.py": {*PLAIN, "settings", "cache"},
    "single_flight.py": {*PLAIN, "store"},
    "one_discovery.py": {*PLAIN, "store", "single flight"},
    "statechart/*": {"errors", "limits", "clock", "logs", "payloads", "events", "observe", "statechart"},
    "observe/*": {"errors", "limits", "clock", "payloads", "events", "named tuple", "observe"},
}


def place_of(file: str) -> tuple[float, str] | None:
    return next(((layer, group) for pattern, layer, group in LAYERS if fnmatch(file, pattern)), None)


def module_file(package: Path, dotted: str) -> str | None:
    """Path below the package of one of our own modules, None where there is no such module."""
    parts = dotted.split(".")[1:]
    for candidate in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
        if (package / candidate).is_file():
            return candidate
    return None


def imported_names(tree: ast.AST, inside: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that is imported anywhere in the file; `inside` is its dotted package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = inside.split(".")[: len(inside.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            literals = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            yield from ((node.lineno, f"{name}.*") for name in literals if isinstance(name, str))


def own_target(package: Path, name: str) -> str:
    """The file behind `miros_cache_net.a.b`: module b, or module a that holds b."""
    return module_file(package, name) or module_file(package, name.rpartition(".")[0]) or f"{name} (no such module)"


def complaint_about_own(file: str, target: str) -> str | None:
    here, there = place_of(file), place_of(target)
    if here is None or there is None:
        return None  # reported once, as a file without a layer
    only = next((groups for pattern, groups in ONLY_GROUPS.items() if fnmatch(file, pattern)), None)
    if only is not None and there[1] not in only:
        return f"needs only {', '.join(sorted(only))}, not {target}"
    if there[0] < here[0] or there[1] == here[1]:
        return None
    return f"is layer {here[0]} ({here[1]}) and may not import {target}, layer {there[0]} ({there[1]})"


def complaint_about_library(file: str, library: str) -> str | None:
    if library in sys.stdlib_module_names:
        return None
    if library not in LIBRARIES:
        return f"imports {library}, which has no line in LIBRARIES"
    allowed = LIBRARIES[library][1]
    if any(fnmatch(file, pattern) for pattern in allowed):
        return None
    return f"may not import {library}; only {', '.join(allowed)} may"


def complaints(package: Path) -> list[str]:
    """One line for each import against the rules, and for each file that has no layer."""
    found = []
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        if place_of(file) is None:
            found.append(f"{file} has no line in LAYERS")
        inside = ".".join([PACKAGE, *path.relative_to(package).parts[:-1]])
        for line, name in imported_names(ast.parse(path.read_text(encoding="utf-8")), inside):
            root = name.partition(".")[0]
            own = root == PACKAGE
            words = complaint_about_own(file, own_target(package, name)) if own else complaint_about_library(file, root)
            if words:
                found.append(f"{file}:{line} {words}")
    return found


def test_every_import_of_the_package_follows_the_layers() -> None:
    assert complaints(ROOT / PACKAGE) == []


def test_every_library_that_is_imported_is_declared() -> None:
    declared = re.findall(r'^\s*"([a-z0-9-]+)[><=;"]|"(miros-rabbitmq)', (ROOT / "pyproject.toml").read_text(), re.M)
    names = {name for pair in declared for name in pair}
    assert {distribution for distribution, _ in LIBRARIES.values()} <= names


def test_every_layer_rule_fits_a_file() -> None:
    files = {path.relative_to(ROOT / PACKAGE).as_posix() for path in (ROOT / PACKAGE).rglob("*.py")}
    unused = {pattern for pattern, _, _ in LAYERS if not any(fnmatch(file, pattern) for file in files)}
    assert not unused


#: The one that answers, and those that hand the whole of it on to a process that they start.
ENVIRONMENT = {
    "settings/environment.py",
    "cli/demo/__init__.py",
    "cli/dev_host.py",
    "mesh/program.py",
    "testing/host.py",
    "testing/rabbit_files.py",
}


def users_of_the_environment(package: Path) -> set[str]:
    return {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\b(environb?|getenvb?)\b", path.read_text(encoding="utf-8"))
    }


def test_there_is_one_way_to_the_environment() -> None:
    assert users_of_the_environment(ROOT / PACKAGE) == ENVIRONMENT


@pytest.mark.parametrize(
    "text", ["import os\nos.environ.get('A')", "from os import getenv", "import os as o; o.getenv('A')"]
)
def test_another_way_to_the_environment_is_found(tmp_path: Path, text: str) -> None:
    planted(tmp_path, "store/lock.py", text)
    assert users_of_the_environment(tmp_path) == {"store/lock.py"}


SOUND = {
    "__init__.py": "",
    "errors.py": "",
    "settings/__init__.py": "",
    "settings/model.py": "from miros_cache_net import errors\nimport pydantic",
    "settings/which_file.py": "",
    "document/__init__.py": "",
    "document/value.py": "",
    "store/__init__.py": "",
    "store/lock.py": "from miros_cache_net.document.value import Stamp\nfrom miros_cache_net.store import other",
    "store/other.py": "",
    "amqp/__init__.py": "",
    "amqp/link.py": "import pika.spec\nimport os",
    "statechart/__init__.py": "",
    "statechart/chart.py": "from miros.event import Event",
    "discovery/__init__.py": "",
    "discovery/lan.py": "from miros_cache_net.statechart.chart import Chart",
    "cache.py": "from miros_cache_net.store.lock import Lock",
    "node.py": "from miros_cache_net.statechart import chart",
}


def planted(folder: Path, file: str, text: str) -> list[str]:
    for name, content in {**SOUND, file: text}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return complaints(folder)


def test_a_sound_tree_draws_no_complaint(tmp_path: Path) -> None:
    assert planted(tmp_path, "errors.py", "import enum") == []


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("errors.py", "from miros_cache_net.document.value import Document", "errors.py:1 is layer 0"),
        ("errors.py", "import miros_cache_net.document.value", "may not import document/value.py, layer 1"),
        ("errors.py", "from miros_cache_net.document import value", "may not import document/value.py, layer 1"),
        ("errors.py", "from .document import value", "may not import document/value.py, layer 1"),
        ("store/lock.py", "from ..node import CacheNode", "may not import node.py, layer 5"),
        ("store/lock.py", "from miros_cache_net.amqp.link import Link", "may not import amqp/link.py, layer 2"),
        (
            "document/value.py",
            "from miros_cache_net.settings import Settings",
            "may not import settings/__init__.py, layer 1",
        ),
        ("document/value.py", "def f():\n    from miros_cache_net import node", "document/value.py:2 is layer 1"),
        (
            "store/lock.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from miros_cache_net.node import CacheNode",
            "store/lock.py:3 is layer 2",
        ),
        ("store/lock.py", "from miros_cache_net import CacheNode", "may not import __init__.py, layer 8"),
        ("store/lock.py", "import importlib\nimportlib.import_module('miros_cache_net.node')", "store/lock.py:2"),
        ("cache.py", "from miros_cache_net.statechart import chart", "needs only"),
        ("discovery/lan.py", "import pika", "may not import pika; only amqp/*, discovery/probe/* may"),
        ("discovery/lan.py", "def f():\n    from cryptography.fernet import Fernet", "may not import cryptography"),
        ("store/lock.py", "from miros.event import Event", "may not import miros; only events.py, statechart/*"),
        (
            "store/lock.py",
            "from miros_cache_net.statechart import chart",
            "may not import statechart/chart.py, layer 2",
        ),
        ("statechart/chart.py", "from miros_cache_net.store import lock", "needs only"),
        ("statechart/chart.py", "from miros_cache_net.document.value import Stamp", "needs only"),
        ("discovery/lan.py", "import miros_rabbitmq", "may not import miros_rabbitmq; only mesh/* may"),
        ("settings/which_file.py", "import pydantic", "may not import pydantic; only settings/model.py"),
        ("settings/which_file.py", "import os, dotenv", "may not import dotenv; only settings/environment.py may"),
        ("amqp/link.py", "import requests", "imports requests, which has no line in LIBRARIES"),
        ("newcomer.py", "", "newcomer.py has no line in LAYERS"),
    ],
)
def test_a_planted_import_against_the_rules_is_found(tmp_path: Path, file: str, text: str, words: str) -> None:
    found = planted(tmp_path, file, text)
    assert len(found) == 1, found
    assert words in found[0]
