"""The search of the run's logs finds what it is for."""

import logging
from pathlib import Path

import pytest

from services.messaging.telemetry import log
from tests import canaries


@pytest.mark.parametrize("planted", ["number 9990000018", "999 000 0018 called", "name=CANARYSON", "ward Canaryward"])
def test_a_planted_person_is_found_by_place(tmp_path: Path, planted: str) -> None:
    (tmp_path / "a.txt").write_text(f"all is well\n{planted}\n")
    assert canaries.found_in([tmp_path / "a.txt"]) == [f"{tmp_path / 'a.txt'}:2"]


def test_this_run_is_logged_at_debug_and_client_libraries_say_only_where(pytestconfig: pytest.Config) -> None:
    log.debug("this_run_is_logged")
    logging.getLogger("aiokafka").warning("key=%s", "CANARY" + "SON")
    [file] = [value for value in pytestconfig.stash._storage.values() if isinstance(value, Path)]
    written = file.read_text()
    assert "this_run_is_logged" in written
    assert "client library: test_canaries." in written
