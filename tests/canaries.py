"""Searches everything that a test run logged, at DEBUG and with client libraries on, for personal data.

The run's own process logs to one file, configured as a service is; service processes inherit DEBUG and log below pytest's folder.
Every test's people have synthetic NHS numbers (999 and seven digits), so whoever is logged is found by number, or by a canary's name.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import structlog

from services.messaging import telemetry
from services.messaging.settings import Settings

PERSONAL = re.compile(r"\b999[ -]?\d{3}[ -]?\d{4}\b|CANARY[A-Z]*|Canary[a-z]+")


def log_everything(file: Path) -> None:
    """Log this process as a service would be, at DEBUG, into `file`; and have service processes do so too."""
    os.environ.setdefault("LIGHTBULB_LOG_LEVEL", "DEBUG")
    chosen = Settings(
        database="postgresql+asyncpg://unused", kafka="unused", secret_file="/dev/null", log_level="DEBUG"
    )
    terminal, sys.stderr = sys.stderr, file.open("w")
    try:
        telemetry.configure("tests", chosen)
    finally:
        sys.stderr = terminal
    structlog.contextvars.clear_contextvars()
    for name in telemetry.QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG)


def found_in(files: Iterable[Path]) -> list[str]:
    """Where something personal stands, by file and line number; never what."""
    return [
        f"{file}:{number}"
        for file in files
        if file.is_file()
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if PERSONAL.search(line)
    ]
