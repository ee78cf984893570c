"""The command line, for people and scripts.

Comes in: the command line.  Goes out: data on standard output, everything else on standard error, and an `exits.Exit`.
Each command is imported only when it runs, so that help is quick.

Must not know: how anything is done; a command calls the rooms above.

    root, lazy                   which commands there are, and where
    read, write, update, ...     one file a command; `checks/` has those of `doctor`, `demo/` the demo
    exits                        how a command ends: its code, and the line that says why
    output, describe             what is printed, and in which words
    words, completing            the glossary's words in each help, and what the shell completes
    cache_file, fleet_settings   what commands of a file, and of a fleet, have in common
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (None: ``sys.argv``) and return its exit code, one of `cli.exits.Exit`.

    Errors become one line on standard error.  Nothing is raised except what click's shell completion exits with.
    """
    from miros_cache_net.cli.exits import guarded

    def run() -> int | None:
        from miros_cache_net.cli.root import root

        result: int | None = root.main(arguments, prog_name="miros-cache-net", standalone_mode=False)
        return result

    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    return guarded(run, as_json="--json" in options)
