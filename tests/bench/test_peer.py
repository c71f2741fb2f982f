"""The benchmark's peer folder, without servers: its names of the product resolve, and a service reads what it writes."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.peer import run
from services.reference import partners
from services.runtime.settings import Settings

GIVEN = {
    "LOOP_PORT": "8001",
    "SINK_URL": "http://127.0.0.1:8002/feedback",
    "KAFKA_BOOTSTRAP": "127.0.0.1:8003",
    "PG_TCP_DSN": "postgresql://postgres@127.0.0.1:8004/loop",
}
FOLDER = Path(run.__file__).parent


def a_benchmark(**more: str) -> run.Benchmark:
    return run.Benchmark.from_environment(GIVEN | more)


@pytest.mark.parametrize("conformance", ["full", "subset"])
def test_the_practice_is_identified_by_its_token_and_its_feedback_goes_to_the_sink(
    tmp_path: Path, conformance: str
) -> None:
    files = run.write_files(tmp_path, a_benchmark(HUB_CONFORMANCE=conformance))
    known = partners.load(files.directory, files.deployment)
    practice = known.authenticate(f"Bearer {run.TOKEN}")
    assert practice is not None
    assert (practice.id, practice.conformance) == (run.PRACTICE, conformance)
    assert str(known.access(practice.id).feedback_url) == GIVEN["SINK_URL"]
    assert f"Authorization: Bearer {run.TOKEN}" in (FOLDER / "headers.txt").read_text()


def test_a_process_reads_its_settings_from_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = a_benchmark()
    files = run.write_files(tmp_path, benchmark)
    config = run.settings(files, benchmark, "intake", http_port=benchmark.loop_port, metrics_port=8005)
    for name, value in run.environment(config).items():
        monkeypatch.setenv(name, value)
    assert Settings() == config
    assert (config.http_port, config.database) == (8001, "postgresql+asyncpg://lightbulb_intake@127.0.0.1:8004/loop")
    assert len(config.secret()) >= 32


def test_the_modules_of_the_services_exist_and_each_can_have_several_processes() -> None:
    assert a_benchmark().each == dict.fromkeys(run.MODULES, 1)
    assert a_benchmark(HUB_EACH="intake=2,router=1,notifier=3").each == {"intake": 2, "router": 1, "notifier": 3}
    assert all(find_spec(module) for module in run.MODULES.values())


def test_the_start_script_is_executable_and_the_template_is_a_message() -> None:
    assert os.access(FOLDER / "start", os.X_OK)
    assert json.loads((FOLDER / "referral.json").read_text())["resourceType"] == "Bundle"
