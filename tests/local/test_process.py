import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.local.embedded import process
from infra.local.embedded.folder_lock import FolderInUse, FolderLock
from infra.local.embedded.process import Child, ProcessCommand, StartFailed
from tests.local.programs import IGNORES_SIGTERM, SLEEPS, comes_true, lives

OWNER = """
import json, sys, time
from pathlib import Path
from infra.local import embedded
from infra.local.embedded.supervisor import Supervisor

parts = embedded.start_all(Path(sys.argv[1]), ephemeral=True, mailboxes=["A1"], fsync=False)
services = Supervisor(Path(sys.argv[1]) / "logs")
services.add("service", [sys.executable, "-c", "import time; time.sleep(600)"], {})
while not services.children:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(600)
"""


def test_everything_stops_when_the_owner_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    started = psutil.Process(owner.pid).children(recursive=True)
    assert len(started) >= 4 * 2, "a watcher and a server each: PostgreSQL, Kafka, MESH, the service"

    owner.kill()
    owner.wait()

    assert comes_true(lambda: not any(lives(process.pid) for process in started), within=20)


def test_servers_get_no_signals_of_the_owners_terminal(tmp_path: Path) -> None:
    child = Child(tmp_path, "server", ProcessCommand(SLEEPS))
    try:
        assert os.getsid(child.pid) != os.getsid(0)
    finally:
        child.stop()


def test_a_server_that_does_not_stop_is_killed_after_its_grace_period(tmp_path: Path) -> None:
    child = Child(tmp_path, "stubborn", ProcessCommand(IGNORES_SIGTERM, grace=0.3))
    child.wait_until(lambda: "ready" in child.output())

    child.stop()

    assert not lives(child.pid)
    assert child.wait() == 128 + signal.SIGKILL


def test_child_processes_of_a_server_stop_with_it(tmp_path: Path) -> None:
    script = f"import subprocess; print(subprocess.Popen({SLEEPS!r}).pid, flush=True)"
    child = Child(tmp_path, "parent", ProcessCommand([sys.executable, "-c", script]))
    child.wait()

    assert comes_true(lambda: not lives(int(child.output())), within=5)


def test_a_server_ends_with_its_watcher_so_that_another_can_use_its_port(tmp_path: Path) -> None:
    child = Child(tmp_path, "server", ProcessCommand(SLEEPS))

    psutil.Process(psutil.Process(child.pid).ppid()).kill()

    assert child.wait() == 128 + signal.SIGKILL
    assert comes_true(lambda: not lives(child.pid), within=5)


WRITES = """
import sys, time
for number in range(1_000_000):
    print(f"line {number:06} {'x' * 87}", flush=True)
    time.sleep(0.0005)
"""


def test_a_log_is_rotated_while_its_server_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LARGEST_LOG", 50_000)
    child = Child(tmp_path, "server", ProcessCommand([sys.executable, "-c", WRITES]))
    log, earlier = tmp_path / "server.log", tmp_path / "server.log.old"
    largest = 0
    try:
        assert comes_true(lambda: earlier.exists() and log.stat().st_size > 1_000, within=30)
        first = earlier.read_text()[:11]
        while earlier.read_text()[:11] in (first, ""):
            largest = max(largest, log.stat().st_size)
            assert child.is_running()
    finally:
        child.stop()
    lines = [line for file in (earlier, log) for line in file.read_text().splitlines()[1:-1]]
    assert lines[-1] > "line 000500"
    assert all(line.startswith("line ") for line in lines)
    assert 50_000 < largest < 5_000_000
    assert {file.name for file in tmp_path.glob("server.log*")} == {"server.log", "server.log.old"}


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="/no/such/program: No such file"):
        Child(tmp_path, "server", ProcessCommand(["/no/such/program"]))


def test_the_error_for_a_server_that_ends_before_it_is_ready_contains_its_output(tmp_path: Path) -> None:
    child = Child(tmp_path, "server", ProcessCommand([sys.executable, "-c", "raise SystemExit('no disk')"]))
    with pytest.raises(StartFailed, match="no disk"):
        child.wait_until(lambda: False)


def test_the_next_owner_stops_servers_that_an_earlier_one_left(tmp_path: Path) -> None:
    left = Child(tmp_path, "server", ProcessCommand(SLEEPS))
    os.kill(json.loads((tmp_path / "server.pid").read_text())["watcher"]["pid"], signal.SIGKILL)
    assert lives(left.pid), "without its watcher nobody stops it"

    FolderLock(tmp_path).release()

    assert comes_true(lambda: not lives(left.pid), within=5)
    assert not (tmp_path / "server.pid").exists()


def test_a_process_that_reuses_the_pid_of_an_earlier_server_is_not_stopped(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEPS) as unrelated:
        earlier = {
            "pid": unrelated.pid,
            "started": psutil.Process(unrelated.pid).create_time() - 100,
            "stop_signal": 15,
        }
        (tmp_path / "server.pid").write_text(json.dumps({"server": earlier, "watcher": earlier}))

        FolderLock(tmp_path).release()

        assert lives(unrelated.pid)
        unrelated.kill()


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"server": {}}', '{"server": 1, "watcher": 2}'])
def test_a_damaged_pid_file_stops_no_process_and_does_not_prevent_the_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.pid").write_text(content)
    FolderLock(tmp_path).release()
    assert not (tmp_path / "server.pid").exists()


def test_a_folder_that_is_in_use_is_refused_by_name(tmp_path: Path) -> None:
    claim = FolderLock(tmp_path)
    with pytest.raises(FolderInUse, match=str(tmp_path)):
        FolderLock(tmp_path)
    claim.release()
    FolderLock(tmp_path).release()
