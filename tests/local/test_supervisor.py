import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.embedded import ports_and_secrets
from infra.local.embedded.process import ProcessCommand
from infra.local.embedded.server_process import ServerProcess
from infra.local.embedded.supervisor import ProcessEvent, ServerWatch, Supervisor
from tests.local.programs import IGNORES_SIGTERM, SLEEPS, comes_true, lives

ENDS = [sys.executable, "-c", "import os, sys; print(os.getpid(), flush=True); sys.exit(3)"]


class Told:
    """Collects the events of the supervisor."""

    def __init__(self) -> None:
        self.events: list[ProcessEvent] = []

    def __call__(self, event: ProcessEvent) -> None:
        self.events.append(event)

    def ends(self) -> list[ProcessEvent]:
        return [event for event in self.events if event.is_unexpected]


@contextmanager
def supervising(folder: Path, told: Told) -> Iterator[Supervisor]:
    supervisor = Supervisor(folder, told)
    try:
        yield supervisor
    finally:
        supervisor.stop()


def test_a_process_that_ends_is_restarted_after_growing_delays(tmp_path: Path) -> None:
    told = Told()
    with supervising(tmp_path, told) as supervisor:
        supervisor.add("weak", ENDS, os.environ)
        assert comes_true(lambda: len(told.ends()) >= 3, within=15)

    assert [event.pause for event in told.ends()[:3]] == [0.5, 1.0, 2.0]
    assert {event.code for event in told.ends()} == {3}
    assert str(told.ends()[0]) == "weak ended with code 3; restart in 0.5 s"
    assert not any(lives(int(pid)) for pid in (tmp_path / "weak.log").read_text().split())


def test_a_killed_process_is_replaced(tmp_path: Path) -> None:
    told = Told()
    with supervising(tmp_path, told) as supervisor:
        supervisor.add("service", SLEEPS, os.environ)
        assert comes_true(lambda: "service" in supervisor.children, within=5)
        first = supervisor.children["service"].pid
        os.kill(first, 9)
        assert comes_true(
            lambda: "service" in supervisor.children and supervisor.children["service"].pid != first, within=5
        )
        second = supervisor.children["service"].pid

    assert [event.code for event in told.ends()] == [128 + 9]
    assert not lives(second)


def test_stopping_ends_every_process_even_one_that_ignores_sigterm(tmp_path: Path) -> None:
    told = Told()
    threads = threading.active_count()
    supervisor = Supervisor(tmp_path, told)
    supervisor.add("gentle", SLEEPS, os.environ)
    supervisor.add("stubborn", IGNORES_SIGTERM, os.environ, grace=0.5)
    assert comes_true(lambda: len(supervisor.children) == 2, within=5)
    pids = [child.pid for child in supervisor.children.values()]

    supervisor.stop()

    assert not any(lives(pid) for pid in pids)
    assert {(event.name, event.what) for event in told.events[-2:]} == {("gentle", "stopped"), ("stubborn", "stopped")}
    assert threading.active_count() == threads
    assert list(tmp_path.glob("*.pid")) == []


def test_a_process_that_cannot_be_started_is_reported_and_retried(tmp_path: Path) -> None:
    told = Told()
    with supervising(tmp_path, told) as supervisor:
        supervisor.add("absent", ["/no/such/program"], os.environ)
        assert comes_true(lambda: len(told.ends()) >= 2, within=5)

    assert "could not be started: /no/such/program: No such file" in str(told.ends()[0])


def test_a_process_gets_exactly_its_given_environment(tmp_path: Path) -> None:
    says = [
        sys.executable,
        "-I",
        "-c",
        "import os; print(sorted(os.environ), flush=True); import time; time.sleep(600)",
    ]
    with supervising(tmp_path, Told()) as supervisor:
        supervisor.add("says", says, {"LIGHTBULB_ONE": "1", "LC_CTYPE": "C.UTF-8"})
        assert comes_true(
            lambda: (tmp_path / "says.log").exists() and "]" in (tmp_path / "says.log").read_text(), within=5
        )
    assert (tmp_path / "says.log").read_text().strip() == "['LC_CTYPE', 'LIGHTBULB_ONE']"


# ---- servers --------------------------------------------------------------------------------------------------------

SERVES = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("serves", flush=True)
    time.sleep(600)
"""


@contextmanager
def watching(folder: Path, told: Told) -> Iterator[tuple[ServerProcess, ServerWatch]]:
    """A server that is running, and the watch that restarts it."""
    [port] = ports_and_secrets.free_ports(1)
    command = ProcessCommand([sys.executable, "-c", SERVES, str(port)])
    server = ServerProcess("server", f"127.0.0.1:{port}", folder, command, lambda child: "serves" in child.output())
    server.start()
    watch = ServerWatch({"postgres": server}, told)
    try:
        yield server, watch
    finally:
        watch.end()
        server.stop()
        watch.join()


def test_a_killed_server_is_started_again_on_its_port_and_reported(tmp_path: Path) -> None:
    told = Told()
    with watching(tmp_path, told) as (server, _):
        for _ in range(2):
            assert server.child is not None
            os.kill(server.child.pid, 9)
            assert comes_true(lambda: told.events and told.events[-1].what == "restarted", within=20)
            with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))):
                told.events.append(ProcessEvent("", "stopped"))

    assert [str(event) for event in told.ends()] == [
        "postgres ended with code 137; restart in 0.5 s",
        "postgres ended with code 137; restart in 1 s",
    ]


def test_a_server_that_cannot_be_started_again_is_reported_and_retried(tmp_path: Path) -> None:
    told = Told()
    with watching(tmp_path, told) as (server, _):
        assert server.child is not None
        server.child.kill()
        with socket.create_server(("127.0.0.1", int(server.address.rpartition(":")[2]))):
            server.child.stop_requested = False  # as if it had ended by itself
            assert comes_true(lambda: len(told.ends()) >= 2, within=20)
        assert comes_true(lambda: told.events[-1].what == "restarted", within=20)

    assert f"server ended: its port is in use; see {tmp_path / 'server.log'}; restart in 1 s" == str(told.ends()[1])


def test_a_server_that_is_stopped_or_killed_on_purpose_stays_so(tmp_path: Path) -> None:
    told = Told()
    with watching(tmp_path, told) as (server, watch):
        assert server.child is not None
        server.child.kill()
        assert server.exit_code() is None
        server.start()
        watch.end()
        os.kill(server.child.pid, 9)
        assert comes_true(lambda: server.exit_code() == 137, within=20)
        watch.join()

    assert told.events == []
