"""Structured logs: one JSON object a line, on standard error or in a file. Keys and passphrases never enter.

structlog takes a tenth of a second to import, and ten nodes start at once on a small machine: it is loaded with the
first line.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_file: Path | None = None
_loaded: Any = None


def configure_logs(file: Path | None = None) -> None:
    """Send logs to a file, or to standard error."""
    global _file, _loaded
    _file, _loaded = file, None


def _load() -> Any:
    global _loaded
    if _loaded is None:
        import structlog

        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file=_file.open("a", buffering=1) if _file else sys.stderr),
            cache_logger_on_first_use=True,
        )
        _loaded = structlog.get_logger()
    return _loaded


class Log:
    """The node's logger: an event's name, and values such as `job`."""

    def info(self, event: str, **values: object) -> None:
        """What happens every day."""
        _load().info(event, **values)

    def warning(self, event: str, **values: object) -> None:
        """What an operator may want to look at."""
        _load().warning(event, **values)

    def error(self, event: str, **values: object) -> None:
        """What should not happen."""
        _load().error(event, **values)

    def critical(self, event: str, **values: object) -> None:
        """What stops the node."""
        _load().critical(event, **values)


def get_logger() -> Log:
    """The node's logger."""
    return Log()
