"""The walk of a new key through a fleet: into every ring, to the front of every ring, alone in every ring."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from miros_cache_net.cli.cache_file import count_text
from miros_cache_net.cli.exits import say
from miros_cache_net.errors import SettingsError

#: A host that is silent this often in a row is missing; one answer may be lost on its way.
_SILENT_TIMES: Final = 3
#: How long the nodes have to answer each time.
_ANSWERS_S: Final = 2.0
#: The ids of a host's keys, the encrypting one first.
Keys = tuple[str, ...]


class Rotation:
    """One rotation.  It stops by itself where a host is missing; then `stopped` says why, and `is_done` is False.

    path       the key file of this host
    ask        returns the `status` of every node that answers, and takes its time for it
    brought    called after each change of the key file, to have it brought to the hosts; False: that has failed
    least      how many hosts there are at least
    timeout_s  how long each step may take
    now_s      a clock that never runs back
    tell       hears each step in one line
    """

    def __init__(
        self,
        path: Path,
        ask: Callable[[], Iterable[Mapping[str, Any]]],
        brought: Callable[[], bool],
        *,
        least: int = 1,
        timeout_s: float = 600.0,
        now_s: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = say,
    ) -> None:
        self._path, self._ask, self._brought = path, ask, brought
        self._least, self._timeout_s, self._now_s, self._tell = least, timeout_s, now_s, tell
        #: How often in a row each host has been silent.
        self._hosts: dict[str, int] = {}
        self.key_id = ""
        self.removed: list[str] = []
        self.stopped = ""
        self.is_done = False

    def run(self, key_id: str | None = None) -> None:
        """Rotate to a new key, or go on with the one of that id.  Raises `SettingsError` for the key file."""
        if key_id is not None and key_id not in self._ring():
            holds = ", ".join(self._ring())
            raise SettingsError(f"key file {self._path} holds no key {key_id[:40]!r}; it holds {holds}")
        self.is_done = (
            self._everybody_is_there()
            and self._make(key_id)
            and self._all_hosts("have the new key", lambda keys: self.key_id in keys)
            and self._promote()
            and self._all_hosts("encrypt with it", lambda keys: keys[:1] == (self.key_id,))
            and self._remove_old()
            and self._all_hosts("hold no other", lambda keys: keys == (self.key_id,))
        )

    def report(self) -> dict[str, Any]:
        """What came of it, for programs."""
        return {
            "key_id": self.key_id,
            "removed": self.removed,
            "hosts": sorted(self._hosts),
            "done": self.is_done,
            "stopped": self.stopped,
        }

    # --- the steps: each True where the next one may follow -----------------------------------------

    def _everybody_is_there(self) -> bool:
        self._look()
        names = ", ".join(sorted(self._hosts)) or "none"
        if len(self._hosts) < self._least:
            return self._stop(f"only these of {count_text(self._least, 'host')} answer: {names}; nothing was changed")
        self._tell(f"{count_text(len(self._hosts), 'host')}: {names}")
        return True

    def _make(self, key_id: str | None) -> bool:
        from miros_cache_net.wire.keyring import new_key

        if key_id is not None:
            self.key_id = key_id
            return True
        self.key_id = new_key(self._path)
        return self._bring(f"made key {self.key_id} in {self._path}; copy the file to every host")

    def _promote(self) -> bool:
        from miros_cache_net.wire.keyring import promote

        if self._ring()[0] == self.key_id:
            return True
        promote(self._path, self.key_id)
        return self._bring(f"{self.key_id} encrypts here from now on; copy the file to every host again")

    def _remove_old(self) -> bool:
        from miros_cache_net.wire.keyring import remove

        self.removed = list(self._ring()[1:])
        for old in self.removed:
            remove(self._path, old)
        removed = ", ".join(self.removed)
        return not removed or self._bring(f"removed {removed} here; copy the file to every host for the last time")

    # --- helpers ------------------------------------------------------------------------------------

    def _ring(self) -> Keys:
        from miros_cache_net.wire.keyring import list_keys

        return tuple(each.key_id for each in list_keys(self._path))

    def _bring(self, what: str) -> bool:
        self._tell(what)
        return self._brought() or self._stop("the command that brings the key file has failed")

    def _all_hosts(self, what: str, have_come_along: Callable[[Keys], bool]) -> bool:
        """Wait until the keys of every host are as they should be; False where that does not come."""
        deadline_s = self._now_s() + self._timeout_s
        told = ""
        while True:
            held = self._look()
            missing = ", ".join(sorted(name for name, times in self._hosts.items() if times >= _SILENT_TIMES))
            if missing:
                return self._stop(f"no longer answering: {missing}")
            behind = ", ".join(sorted(name for name in self._hosts if not have_come_along(held.get(name, ()))))
            if not behind:
                self._tell(f"all hosts {what}")
                return True
            if self._now_s() >= deadline_s:
                return self._stop(f"after {self._timeout_s:g} s some hosts do not yet {what}: {behind}")
            if behind != told:
                self._tell(f"waiting for {behind} to {what}")
                told = behind

    def _look(self) -> dict[str, Keys]:
        """The keys of each host that answers."""
        held = {str(each.get("node")): tuple(map(str, each.get("keys") or ())) for each in self._ask()}
        self._hosts = {name: 0 if name in held else times + 1 for name, times in self._hosts.items()}
        self._hosts.update(dict.fromkeys(held, 0))
        return held

    def _stop(self, why: str) -> bool:
        go_on = f"; fix that, then continue with `miros-cache-net key rotate --fleet {self.key_id}`"
        self.stopped = why + (go_on if self.key_id else "")
        self._tell(f"stopped: {self.stopped}")
        return False


def rotate_with_fleet(
    path: Path,
    key_id: str | None,
    file_path: str | None,
    keys_file: str | None,
    *,
    hosts: int | None,
    bring: str | None,
    timeout_s: float,
) -> Rotation:
    """A rotation that has run, with the fleet that the settings name."""
    from miros_cache_net.cli.fleet_settings import load_settings
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings.which_file import cache_path

    settings = load_settings(file_path, keys_file=keys_file)

    def brought() -> bool:
        return bring is None or subprocess.run(bring, shell=True, stdin=subprocess.DEVNULL, check=False).returncode == 0

    with FleetClient(settings, cache_path(settings.file)) as client:
        rotation = Rotation(
            path, lambda: client.fleet.statuses(_ANSWERS_S), brought, least=hosts or 1, timeout_s=timeout_s
        )
        rotation.run(key_id)
    return rotation
