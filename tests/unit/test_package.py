"""The package as somebody gets it: what importing costs, and what is in the wheel."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from miros.activeobject import Factory

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
        ("import miros_cache_net.mesh", HEAVY),
        ("import miros_cache_net.mesh.program", HEAVY),
        ("import miros_cache_net.testing", HEAVY),
        ("import miros_cache_net.testing.fixtures", HEAVY - {"pytest"}),
        ("import miros_cache_net.cli", {"miros", "pika", "cryptography", "pydantic", "pydantic_settings", "rich"}),
    ],
)
def test_importing_loads_no_more_than_is_used(statement: str, never: set[str]) -> None:
    assert loaded_by(statement) & never == set()


def test_answering_file_chart_loads_no_slow_library(tmp_path: Path) -> None:
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


def test_every_public_name_is_known_to_type_checkers() -> None:
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


def tracked() -> list[str]:
    """The files of the clone, those that are new here among them."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with nothing but the wheel in it; the path of its `bin`."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    # The wheel is built from the source distribution, so that both are proved.
    run(sys.executable, "-m", "build", "--outdir", folder, source)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    run(folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    return folder / "venv" / "bin"


@pytest.mark.slow
def test_wheel_installs_into_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    run(installed / "python", "-m", "pip", "check")
    program = "import miros_cache_net as m; [getattr(m, name) for name in m.__all__]; print(m.__version__, m.__file__)"
    number, file = run(installed / "python", "-c", program, cwd=tmp_path).split()
    assert number == version("miros-cache-net")
    assert Path(file).is_relative_to(installed.parent)


@pytest.mark.slow
def test_what_is_built_is_whole_and_sound(installed: Path) -> None:
    (sdist,), (wheel,) = installed.parents[1].glob("*.tar.gz"), installed.parents[1].glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    run(sys.executable, "-m", "check_wheel_contents", wheel, cwd=ROOT)
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked()) - packed == {".gitignore"}
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        text = archive.read(metadata).decode()
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) > 10 and all(link.startswith(("https://", "#")) for link in links)
    files = f"/blob/v{version('miros-cache-net')}/"
    named = [link.partition(files)[2].partition("#")[0] for link in links if files in link]
    assert named and all((ROOT / name).exists() for name in named)
    assert {line.partition(", ")[0] for line in text.splitlines() if line.startswith("Project-URL")} == {
        f"Project-URL: {name}" for name in ("Source", "Documentation", "Changelog", "Issues")
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", [["miros-cache-net"], ["python", "-m", "miros_cache_net"]])
def test_the_installed_command_shows_its_help(installed: Path, tmp_path: Path, command: list[str]) -> None:
    words = run(installed / command[0], *command[1:], "--help", cwd=tmp_path)
    assert "Usage:" in words and "read" in words


#: Each is a mistake at the end of a user's program.
MISTAKES = """
wrong_1: int = printers()
wrong_2: str = printers.cache.read().age_s
wrong_3: Cache = scanners.cache
wrong_4 = Cache("a.json").changes("soon")
wrong_5 = printers("argument")
wrong_6 = Cache("a.json").get_or_discover(scanners)
"""


def mypy(program: Path, python: Path) -> set[int]:
    """The lines on which it finds something wrong."""
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)
    assert done.stderr == ""
    return {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}


def pyright(program: Path, python: Path) -> set[int]:
    """The same; `basedpyright` is a build of it that is installed without asking a second package index."""
    (program.parent / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "pythonVersion": "3.10"}')
    checker = Path(sys.executable).with_name("basedpyright")
    command = [checker, "--outputjson", "--pythonpath", python, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright], ids=lambda checker: str(checker.__name__))
def test_a_users_program_has_its_types_and_mistakes_are_found(
    installed: Path, tmp_path: Path, checker: Callable[[Path, Path], set[int]]
) -> None:
    program = tmp_path / "program.py"
    program.write_text((ROOT / "tests" / "fixtures" / "users_program.py").read_text())
    assert checker(program, installed / "python") == set()
    first = program.read_text().count("\n") + 1
    with program.open("a") as more:
        more.write(MISTAKES.lstrip())
    assert checker(program, installed / "python") == set(range(first, first + MISTAKES.count("wrong")))


@pytest.mark.slow
def test_fleet_runs_in_memory_with_pytest_alone(installed: Path, tmp_path: Path) -> None:
    run(installed / "python", "-m", "pip", "install", "--quiet", "pytest")
    how_to = (ROOT / "docs" / "how-to" / "test-your-program.md").read_text()
    example = how_to.partition("<!-- test_fleet.py -->\n```python\n")[2].partition("```")[0]
    (tmp_path / "test_fleet.py").write_text(example)
    # no program of this machine can be found, and so no RabbitMQ
    words = run("env", f"PATH={installed}", "HOME=/nonexistent", installed / "pytest", tmp_path, cwd=tmp_path)
    assert "plugins: miros-cache-net" in words and "1 passed" in words


def test_this_version_has_its_part_in_the_changelog() -> None:
    assert f"\n## {version('miros-cache-net')}" in (ROOT / "CHANGELOG.md").read_text()


def test_whoever_freezes_a_program_finds_the_hook() -> None:
    (entry,) = [each for each in entry_points(group="pyinstaller40") if each.value.startswith("miros_cache_net.")]
    (directory,) = entry.load()()
    assert (Path(directory) / "hook-miros_cache_net.py").is_file()


def test_the_page_has_every_dependencys_reason_and_floor() -> None:
    page = (ROOT / "docs" / "explanation" / "neighbours.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| ([0-9.]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    block = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
    bounds = dict(re.findall(r'"([a-z-]+)>=([0-9.]+)', block))
    assert bounds == {name: floor for name, floor, _why, _why_floor in rows}
    assert all(why.strip() and why_floor.strip() for _name, _floor, why, why_floor in rows)


# --- what a user may touch ----------------------------------------------------------------------------


def test_node_shows_its_users_only_their_names() -> None:
    shown = {name for name in dir(miros_cache_net.CacheNode) if name[0] != "_"} - set(dir(Factory))
    of_every_chart = {
        "log",
        "post_always",
        "post_later",
        "refused_events",
        "report",
        "running",
        "state_method",
        "STATES",
    }
    told = {"connected", "file_chart", "fleet_status", "read_fleet", "status"}
    assert shown == {*of_every_chart, *told, "ask_turn", "on_change", "unsubscribe", "wait_connected"}
