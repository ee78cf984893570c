"""Run benchmarks and print their table: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks import alone, crowd, parsing, starting, tracing
from benchmarks.measure import Line, table

BENCHMARKS = {
    "plain-reads": alone.plain_reads,
    "reads": alone.reads_side_by_side,
    "writes": alone.writes_side_by_side,
    "charts": alone.charts,
    "parsing": parsing.parsing,
    "strangers": parsing.strangers,
    "processes": starting.processes,
    "idle": starting.idle_charts,
    "steps": tracing.steps,
    "counters": crowd.counters,
    "mixed": crowd.readers_and_writers,
    "paced": crowd.paced_writers,
    "closed-loop": crowd.closed_loop,
    "at-once": crowd.all_at_once,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--directory", type=Path, help="where the files are kept; name a real disk, not a tmpfs")
    chosen = parser.parse_args()
    names = chosen.names or list(BENCHMARKS)
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    _allow_many_files()
    lines: list[Line] = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
            lines += BENCHMARKS[name](Path(directory))
    print(f"\nPython {platform.python_version()}, {platform.system()} {platform.release()}, {_cores()} cores\n")
    print(table(lines))
    return 1 if any(line.verdict == "NO" for line in lines) else 0


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
