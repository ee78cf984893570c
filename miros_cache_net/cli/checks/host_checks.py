"""What this machine's processes are at: is there a bridge, and do those that follow it have one?"""

from __future__ import annotations

from pathlib import Path

from miros_cache_net.cli.checks.finding import OK, Finding, failed
from miros_cache_net.host.stranger import health_of, unserved_locks

_CHECK = "bridge"
#: A running bridge answers in milliseconds, on a busy machine within a second.
_ANSWER_S = 5.0


def check_host(path: Path) -> list[Finding]:
    """Whether the process that links this host to the broker, if one does, answers the host's other processes."""
    answers = health_of(path, _ANSWER_S)
    found = [failed(_CHECK, answer.error) for answer in answers if answer.error]
    for lock in unserved_locks(path):
        text = f"a process holds {lock.name}, but has no socket: those that follow it watch the file, and cannot ask"
        found.append(failed(_CHECK, text, "end that process (`fuser -v` on the lock names it): another takes over"))
    if found:
        return found
    names = [str(answer.value.get("node")) for answer in answers if isinstance(answer.value, dict)]
    return [Finding(_CHECK, OK, f"{', '.join(names)} answers" if names else "no node runs on this host")]
