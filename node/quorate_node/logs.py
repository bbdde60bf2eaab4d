"""Structured logs: one JSON object a line, on standard error or in a file. Keys and passphrases never enter."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import structlog


def configure_logs(file: Path | None = None, level: int = logging.INFO) -> None:
    """Send logs to a file, or to standard error."""
    stream = file.open("a", buffering=1) if file else sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )


def get_logger() -> Any:
    """The node's logger."""
    return structlog.get_logger()
