"""The package as somebody gets it: what importing costs, and what is in the wheel."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

import miros_cache_net
from miros_cache_net import errors, payloads

ROOT = Path(__file__).parents[2]
HEAVY = {"miros", "pika", "cryptography", "click", "rich", "pydantic", "pydantic_settings", "inotify_simple", "pytest"}


def run(*command: str | Path, cwd: Path | None = None, timeout_s: float = 300.0) -> str:
    """Run to the end, outside this project's own settings; its output, or a failure that shows all it said."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    finished = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert finished.returncode == 0, f"{command} gave {finished.returncode}:\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def loaded_by(statement: str, libraries: set[str] = HEAVY) -> set[str]:
    """Which of the heavy libraries a fresh interpreter has loaded after `statement`.

    Without `site`, which an editable installation has load some of them itself.
    """
    tell = "import json; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    program = f"import sys; sys.path += {sys.path[1:]!r}\n{statement}\n{tell}"
    return libraries & set(json.loads(run(sys.executable, "-S", "-c", program, cwd=ROOT)))


# --- importing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import miros_cache_net", HEAVY),
        ("from miros_cache_net import CacheReadPayload, CacheNetError", HEAVY),
        ("from miros_cache_net import Cache, read_cache", HEAVY),
        ("from miros_cache_net import CacheFileChart", HEAVY - {"miros"}),
        ("from miros_cache_net import ProducerScoutChart", {"click", "rich", "inotify_simple", "pytest"}),
        ("from miros_cache_net import CacheNode", {"click", "rich", "pytest"}),
        ("from miros_cache_net import Settings", HEAVY - {"pydantic", "pydantic_settings"}),
        ("import miros_cache_net.testing", HEAVY),
        ("import miros_cache_net.testing.fixtures", HEAVY - {"pytest"}),
        ("import miros_cache_net.cli", {"miros", "pika", "cryptography", "pydantic", "pydantic_settings", "rich"}),
    ],
)
def test_importing_loads_no_more_than_is_used(statement: str, never: set[str]) -> None:
    assert loaded_by(statement) & never == set()


def test_a_file_chart_that_answers_loads_beside_miros_no_library_that_is_slow_to_load(tmp_path: Path) -> None:
    answer = f"""
from miros_cache_net.statechart.listener import Listener
from miros_cache_net import CacheFileChart
import threading
came = threading.Event()
listener = Listener({{"CACHE": lambda payload: came.set()}})
chart = CacheFileChart({str(tmp_path / "cache.json")!r}, default_json={{"a": 1}})
listener.publish(__import__("miros_cache_net.events", fromlist=["event"]).event("CACHE_FILE_READ"))
assert came.wait(30)
"""
    slow = {"asyncio", "tempfile", "subprocess", "multiprocessing", "email", "http"}
    assert loaded_by(answer, slow) - loaded_by("import miros.activeobject", slow) == set()


def test_every_public_name_can_be_had() -> None:
    assert len(set(miros_cache_net.__all__)) == len(miros_cache_net.__all__)
    for name in miros_cache_net.__all__:
        assert getattr(miros_cache_net, name) is not None
        assert name in dir(miros_cache_net)


def test_every_public_name_is_known_to_type_checkers_too() -> None:
    tree = ast.parse((ROOT / "miros_cache_net" / "__init__.py").read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    typed = {
        alias.name
        for node in ast.walk(ast.Module(blocks, []))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("miros_cache_net.")
        for alias in node.names
    }
    assert typed == {*miros_cache_net.__all__} - {"__version__"}
    assert set(miros_cache_net._LAZY) <= typed


def test_every_error_and_every_payload_is_public() -> None:
    made_here = {
        name
        for module in (errors, payloads)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    assert made_here <= set(miros_cache_net.__all__), "add it to miros_cache_net/__init__.py"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'NoSuchChart'"):
        _ = miros_cache_net.NoSuchChart  # type: ignore[attr-defined]


# --- the wheel --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with nothing but the wheel in it; the path of its `bin`."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "miros_cache_net", source / "miros_cache_net")
    # The wheel is built from the source distribution, so that both are proved.
    run(sys.executable, "-m", "build", "--outdir", folder, source)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    run(folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    return folder / "venv" / "bin"


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment_and_imports(installed: Path, tmp_path: Path) -> None:
    run(installed / "python", "-m", "pip", "check")
    program = "import miros_cache_net as m; [getattr(m, name) for name in m.__all__]; print(m.__version__, m.__file__)"
    number, file = run(installed / "python", "-c", program, cwd=tmp_path).split()
    assert number == version("miros-cache-net")
    assert Path(file).is_relative_to(installed.parent)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["miros-cache-net"], ["python", "-m", "miros_cache_net"]])
def test_the_installed_command_shows_its_help(installed: Path, tmp_path: Path, command: list[str]) -> None:
    words = run(installed / command[0], *command[1:], "--help", cwd=tmp_path)
    assert "Usage:" in words and "read" in words


@pytest.mark.slow
def test_the_installed_package_tells_type_checkers_its_types(installed: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("from miros_cache_net import Cache, CacheReadPayload\n\ndef f(c: Cache) -> CacheReadPayload:\n")
    with program.open("a") as more:
        more.write("    return c.read()\n")
    run(sys.executable, "-m", "mypy", "--strict", "--python-executable", installed / "python", program, cwd=tmp_path)
    program.write_text(program.read_text().replace("-> CacheReadPayload", "-> int"))
    with pytest.raises(AssertionError, match="Incompatible return value type"):
        run(
            sys.executable, "-m", "mypy", "--strict", "--python-executable", installed / "python", program, cwd=tmp_path
        )


@pytest.mark.slow
def test_with_pytest_alone_beside_the_package_a_fleet_runs_in_memory(installed: Path, tmp_path: Path) -> None:
    run(installed / "python", "-m", "pip", "install", "--quiet", "pytest")
    how_to = (ROOT / "docs" / "how-to" / "test-your-program.md").read_text()
    example = how_to.partition("<!-- test_fleet.py -->\n```python\n")[2].partition("```")[0]
    (tmp_path / "test_fleet.py").write_text(example)
    # no program of this machine can be found, and so no RabbitMQ
    words = run("env", f"PATH={installed}", "HOME=/nonexistent", installed / "pytest", tmp_path, cwd=tmp_path)
    assert "plugins: miros-cache-net" in words and "1 passed" in words


def test_this_version_has_its_part_in_the_changelog() -> None:
    assert f"\n## {version('miros-cache-net')}" in (ROOT / "CHANGELOG.md").read_text()
