"""Where a command's log goes, and what a line of it looks like."""

from __future__ import annotations

import logging
import time
from typing import Final

from miros_cache_net.cli.exits import PROGRAM, printable
from miros_cache_net.cli.output import json_line
from miros_cache_net.logs import PACKAGE_LOG

_MARK: Final = "_of_miros_cache_net"
#: A line of a command that ends soon.
SHORT: Final = f"{PROGRAM}: %(levelname)s: %(message)s"
#: A line of a command that runs for long.
LONG: Final = "%(asctime)s %(levelname)s %(message)s"


class TextLines(logging.Formatter):
    """One line an event, with what a terminal would interpret escaped; below it the traceback, if there is one."""

    def __init__(self, line: str) -> None:
        super().__init__(line, "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)


class JsonLines(logging.Formatter):
    """One JSON object a line, with the same fields for every event."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return json_line(
            {
                "time": f"{moment}.{int(record.msecs):03d}Z",
                "level": record.levelname,
                "logger": record.name,
                "process": record.process,
                "thread": record.threadName,
                "message": printable(record.getMessage()),
                "exception": self.formatException(record.exc_info) if record.exc_info else "",
            }
        )


def warn_on_stderr() -> None:
    """Send the package's warnings to standard error as plain lines, until `log_to_stderr` is called.

    What the settings have to say comes before they have said how to log.
    """
    if logging.lastResort is not None:
        PACKAGE_LOG.addHandler(logging.lastResort)


def log_to_stderr(level: str, form: str, line: str = SHORT) -> None:
    """Send the package's log to standard error, from `level` on; `form` is ``text`` or ``json``.  The last call wins.

    `line` is the format of a line of text.
    """
    for handler in [each for each in PACKAGE_LOG.handlers if hasattr(each, _MARK)]:
        PACKAGE_LOG.removeHandler(handler)
    if logging.lastResort is not None:
        PACKAGE_LOG.removeHandler(logging.lastResort)
    handler = logging.StreamHandler()
    setattr(handler, _MARK, True)
    handler.setFormatter(JsonLines() if form == "json" else TextLines(line))
    PACKAGE_LOG.addHandler(handler)
    PACKAGE_LOG.setLevel(level)
    PACKAGE_LOG.propagate = False
