"""Logs record what happened, without personal data."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from infra.local.embedded import ports_and_secrets
from services.runtime import logs

CANARY = "CANARYSON 9990000018"

SPEAKS = f"""
import logging, sys
from pathlib import Path
from services.runtime import logs
from services.runtime.settings import load
logs.configure("tried", load("router"))
for name in {(*logs.QUIET, "some.other.library")!r}:
    logger = logging.getLogger(name)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(level, "key=%s", {CANARY!r})
        logger.log(level, {CANARY!r})
    try:
        raise ValueError({CANARY!r})
    except ValueError:
        logger.exception("failed for {CANARY}")
try:
    raise ValueError({CANARY!r})
except ValueError:
    logs.log.warning("our_own", correlation_id="c-1", exc_info=True)
"""


def run(code: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    secret = tmp_path / "secret"
    ports_and_secrets.secret(secret)
    told = {
        "LIGHTBULB_DATABASE": "postgresql+asyncpg://u:p@127.0.0.1:1/none",
        "LIGHTBULB_KAFKA": "127.0.0.1:1",
        "LIGHTBULB_SECRET_FILE": str(secret),
        "LIGHTBULB_LOG_LEVEL": "DEBUG",
        **environment,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTBULB_")}
    return subprocess.run(
        [sys.executable, "-c", code], env=inherited | told, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_client_library_logs_personal_data_even_at_debug(tmp_path: Path, log_format: str) -> None:
    ran = run(SPEAKS, tmp_path, LIGHTBULB_LOG_FORMAT=log_format)
    assert ran.returncode == 0, ran.stderr
    assert "CANARYSON" not in ran.stderr + ran.stdout
    assert "our_own" in ran.stderr
    assert "ValueError" in ran.stderr
    assert "c-1" in ran.stderr


def test_a_warning_of_a_client_library_is_logged_by_its_code_location(tmp_path: Path) -> None:
    ran = run(SPEAKS, tmp_path)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert any(line["event"].startswith("client library: ") and line["level"] == "warning" for line in lines)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Two hundred moments, a second apart."""
    seconds = iter(range(200))
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(seconds))
    return seconds


def test_a_code_location_logs_once_in_ten_seconds_with_the_number_of_those_left_out(clock: Iterator[int]) -> None:
    kept = logs.ClientLibraryFilter()
    records = [logging.LogRecord("aiokafka", logging.WARNING, "conn.py", 7, "away %s", ("x",), None) for _ in range(21)]
    logged = [record.getMessage() for record in records if kept.filter(record)]
    assert logged == ["client library: conn.None:7", *["client library: conn.None:7 (9 left out)"] * 2]


def test_a_warning_that_a_server_is_away_is_logged_once_in_ten_seconds_with_a_count(clock: Iterator[int]) -> None:
    written: list[Any] = []
    log = structlog.wrap_logger(
        structlog.ReturnLogger(),
        processors=[logs.once_in_ten_seconds(logs.Repeats()), lambda _, __, event: written.append(event) or ""],
    )
    for _ in range(41):
        log.warning("dependency_unreachable", dependency="kafka", reason="KafkaConnectionError", seconds=len(written))
        log.warning("dependency_unreachable", dependency="database", reason="sqlstate 25006")
        log.warning("feedback_retry_scheduled", reference="LB")
    kafka = [event.get("left_out", 0) for event in written if event.get("dependency") == "kafka"]
    assert kafka == [0, 4, *[4] * (len(kafka) - 2)]
    assert 8 <= len(kafka) <= 9
    assert sum(event["event"] == "feedback_retry_scheduled" for event in written) == 41


def test_a_missing_and_an_invalid_setting_are_named_at_start(tmp_path: Path) -> None:
    ran = run(
        "from services.runtime.settings import load; load('router')",
        tmp_path,
        LIGHTBULB_DATABASE="mysql://secret",
        LIGHTBULB_KAFKA="",
    )
    assert ran.returncode == 1
    assert "LIGHTBULB_DATABASE" in ran.stderr
    assert "LIGHTBULB_KAFKA" in ran.stderr
    assert "secret" not in ran.stderr.replace("secret_file", "")


def test_a_secret_that_is_too_short_is_named_at_start(tmp_path: Path) -> None:
    short = tmp_path / "short"
    ports_and_secrets.write(short, "1234")
    ran = run("from services.runtime.settings import load; load('router')", tmp_path, LIGHTBULB_SECRET_FILE=str(short))
    assert ran.returncode == 1
    assert "LIGHTBULB_SECRET_FILE: at least 32 random bytes" in ran.stderr
