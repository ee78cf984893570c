"""`miros-cache-net doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from miros_cache_net.cli.cache_file import count_text, file_option, json_option
from miros_cache_net.cli.checks.clock_checks import ClockWatch
from miros_cache_net.cli.checks.finding import FAILED, OK, SKIPPED, WARNING, Finding, failed_by, warning
from miros_cache_net.cli.completing import files
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.output import print_json, print_table, told_if_slow
from miros_cache_net.errors import CacheNetError, SettingsError
from miros_cache_net.node_status import NodeStatus
from miros_cache_net.settings.which_file import cache_path

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

_HERE: Final = "."


@click.command("doctor")
@click.option("--strict", is_flag=True, help="Warnings count as failures: exit code 1.")
@click.option(
    "--report",
    "report_to",
    is_flag=False,
    flag_value=_HERE,
    metavar="[PATH]",
    shell_complete=files,
    help="Also pack what was found into a file to attach to a bug report, without secrets: here, or at PATH.",
)
@file_option
@json_option
def command(strict: bool, report_to: str | None, file_path: str | None, as_json: bool) -> int:
    """Check this machine and the whole fleet, and say how to fix what is wrong.

    It checks the settings, the key, the directory, the file, the disk and the clock, and whether this host's bridge
    answers.  At each broker it checks whether it is reachable, the login, the virtual host and the exchange, and
    whether it takes and delivers a message of the document's size.  Then it asks every node of the fleet: do the
    documents, clocks, keys and releases agree, and what does each say of its link, its key, its file and its disk?  At
    a broker it does what a node does, so it declares the exchange if there is none yet.

    Each failure and each warning has a line `fix:`.  The exit code is 1 if any check has failed.  A warning is
    something that works but may not be what you want: a misspelt variable, a document that never expires.

    The report is a .tar.gz of what was found, the nodes' statuses, the settings and the versions of everything.  It
    holds names of hosts, files and brokers, but no key, no password and nothing of the document.

    \b
    Examples:
      miros-cache-net doctor
      miros-cache-net doctor --report
      miros-cache-net doctor --strict --json | jq -r '.[] | select(.fix != "") | "\\(.detail): \\(.fix)"'
    """
    examination = Examination(file_path)
    with told_if_slow("asking the broker and the fleet"):
        findings = list(examination.findings())
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        _show(findings)
    if report_to is not None:
        from miros_cache_net.cli.report import write_report

        say(f"wrote {write_report(Path(report_to), findings, examination.nodes, examination.path)}")
    wrong = (FAILED, WARNING) if strict else (FAILED,)
    return Exit.NO if any(finding.outcome in wrong for finding in findings) else Exit.DONE


def _show(findings: Sequence[Finding]) -> None:
    rows = []
    for finding in findings:
        rows.append((finding.check, finding.outcome, finding.detail))
        if finding.fix:
            rows.append(("", "fix:", finding.fix))
    print_table(("check", "", "detail"), rows)
    failures, warnings = (sum(finding.outcome == each for finding in findings) for each in (FAILED, WARNING))
    counted = [f"{count_text(failures, 'check')} failed"] if failures else []
    counted += [count_text(warnings, "warning")] if warnings else []
    print(f"\n{', '.join(counted) or 'all is well'}")


class Examination:
    """All checks, in the order in which one needs another.

    nodes  what the fleet's nodes said of themselves, once `findings` is through
    path   the cache file, None if the settings do not tell it
    """

    def __init__(self, file_path: str | None) -> None:
        self._file_path = file_path
        self.nodes: list[NodeStatus] = []
        self.path: Path | None = None

    def findings(self) -> Iterator[Finding]:
        clock = ClockWatch()
        try:
            settings = self._settings()
            self.path = cache_path(settings.file)
        except CacheNetError as error:
            yield failed_by("settings", error)
            yield from (Finding(check, SKIPPED, "needs the settings") for check in ("key", "file", "broker"))
        else:
            yield Finding("settings", OK, "see `miros-cache-net settings`")
            yield from _misspelt()
            yield from self._with(settings, self.path)
        yield clock.finding()

    def _settings(self) -> Settings:
        from miros_cache_net.cli.fleet_settings import load_settings

        return load_settings(self._file_path)

    def _with(self, settings: Settings, path: Path) -> Iterator[Finding]:
        from miros_cache_net.cli.checks.broker_checks import check_brokers
        from miros_cache_net.cli.checks.file_checks import check_file
        from miros_cache_net.cli.checks.host_checks import check_host

        key = _check_key(settings)
        yield key
        yield from check_file(path)
        yield from check_host(path)
        try:
            brokers = check_brokers(settings, path)
        except SettingsError as error:
            yield failed_by("broker", error)
            return
        yield from brokers
        if key.outcome != OK:
            yield Finding("answers", SKIPPED, "needs the key")
        elif not any(finding.check == "messages" and finding.outcome == OK for finding in brokers):
            yield Finding("answers", SKIPPED, "needs a broker that takes messages and delivers them")
        else:
            yield from self._fleet(settings, path)

    def _fleet(self, settings: Settings, path: Path) -> list[Finding]:
        from miros_cache_net.cli.checks.fleet_checks import check_fleet

        findings, self.nodes = check_fleet(settings, path)
        return findings


def _misspelt() -> list[Finding]:
    from miros_cache_net.settings.environment import environment
    from miros_cache_net.settings.known_names import unknown_variables

    unknown = unknown_variables(environment())
    return [
        warning("variable", f"{name} is not a setting and is ignored", f"did you mean {close}?")
        for name, close in unknown.items()
    ]


def _check_key(settings: Settings) -> Finding:
    from miros_cache_net.wire.keyring import KeyRing

    try:
        ring = KeyRing(settings.load_keys())
    except SettingsError as error:
        return failed_by("key", error)
    place = "MIROS_CACHE_KEYS" if settings.keys else str(settings.keys_file)
    return Finding("key", OK, f"{ring.primary_id} encrypts; {count_text(len(ring.ids), 'key')} in {place}")
