"""The command `miros-cache-net`: one file a command, each imported only when it is asked for.."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (None: ``sys.argv``) and return its exit code, one of `cli.exits.Exit`.

    Errors become one line on standard error; nothing is raised but what click's shell completion ends with.
    """
    from miros_cache_net.cli.exits import guarded

    def run() -> int | None:
        from miros_cache_net.cli.root import root

        result: int | None = root.main(arguments, prog_name="miros-cache-net", standalone_mode=False)
        return result

    return guarded(run)
