"""`lightbulb up` as a program: servers that are killed come back, and Ctrl-C leaves nothing running."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local import installation
from services.runtime.settings import CHECKOUT
from tests.local.programs import comes_true, lives

PIDS = {"postgres": "postgres/postgres.pid", "kafka": "kafka/1/broker.pid", "mesh": "mesh/mesh.pid"}
"""The pid file of each server, by its name in events."""


class Up:
    """A running `lightbulb up`, and the lines that it printed."""

    def __init__(self, data: Path, *words: str) -> None:
        self.data, self.output = data, data.with_suffix(".output")
        with self.output.open("w") as output:
            argv = [sys.executable, "-m", "infra", "up", "--data", str(data), *words]
            self.process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, cwd=CHECKOUT)

    def printed(self, line: str, within: float = 120) -> bool:
        return comes_true(lambda: line in self.output.read_text() or self.process.poll() is not None, within=within)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder outside of that of the run, because Kafka's files hold records; what still uses it at the end is killed."""
    folder = installation.temporary_folder()
    yield folder / "data"
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_killed_servers_come_back_and_ctrl_c_leaves_nothing(data: Path) -> None:
    up = Up(data, "--feedback", "gp-alder-lane=http://127.0.0.1:9/feedback")
    assert up.printed("Ready."), up.output.read_text()
    assert "feedback_url: http://127.0.0.1:9/feedback" in (data / "deployment.yaml").read_text()
    for name, file in PIDS.items():
        os.kill(json.loads((data / file).read_text())["server"]["pid"], signal.SIGKILL)
        assert up.printed(f"{name} restarted"), up.output.read_text()
        assert f"{name} ended with code 137; restart in 0.5 s" in up.output.read_text()

    send = [sys.executable, "-m", "infra", "send", "examples/mrs-v.json", "--data", str(data)]
    assert comes_true(lambda: subprocess.run(send, capture_output=True, cwd=CHECKOUT).returncode == 0, within=60)
    running = psutil.Process(up.process.pid).children(recursive=True)
    assert len(running) >= 12, "a watcher and a process each: three servers, three services"
    assert up.stop() == 0
    assert not any(lives(process.pid) for process in running)
