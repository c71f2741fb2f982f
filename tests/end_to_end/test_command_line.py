"""The help of the command line has examples; exit codes are as documented; a failure is one line without a traceback."""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import typer

from infra.cli import main
from services.runtime import metrics
from services.runtime.settings import CHECKOUT


def _commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


COMMANDS = dict(_commands(typer.main.get_command(main.app)))
"""Every command of the program, by its words."""

WORDS = {
    "send": ("examples/mrs-v.json",),
    "trace": ("LB-0000-0000-0000",),
    "republish": ("--hub", "blaby", "--since", "2026-01-01"),
    "find": ("--partner", "gp-alder-lane"),
    "feedback show": ("4a6d5e0e-2f0a-4d3c-9d0c-0d5c9d0f6f11",),
    "feedback resend": ("--all", "--who", "A", "--why", "b"),
    "quarantine show": ("router:1",),
    "quarantine resubmit": ("--all",),
    "quarantine discard": ("--all", "--who", "A", "--why", "b"),
}
"""What a command needs to be complete. A new command that needs words gets a line here."""

OF_AN_INSTALLATION = {name for name, command in COMMANDS.items() if any("--data" in one.opts for one in command.params)}
ASKS_SERVERS = sorted(OF_AN_INSTALLATION - {"up", "send"})
AWAY = {"LIGHTBULB_DATABASE": "postgresql+asyncpg://user:hush@127.0.0.1:1/none", "LIGHTBULB_KAFKA": "127.0.0.1:1"}


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def lightbulb(*words: str) -> Ran:
    """Run the command line in this process: starting one for each command takes a second."""
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        patched.setattr(sys, "argv", ["lightbulb", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
    return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def test_the_command_line_is_a_program() -> None:
    shown = subprocess.run([sys.executable, "-m", "infra", "--help"], capture_output=True, text=True, cwd=CHECKOUT)
    assert (shown.returncode, "directory" in shown.stdout) == (0, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    shown = lightbulb(*command.split(), "--help")
    assert shown.returncode == 0
    assert f"lightbulb {command}" in shown.stdout.replace("LIGHTBULB_KAFKA=... ", "").split("Example")[1]


@pytest.mark.parametrize("words", [("up", "--brokers", "2"), ("send",), ("trace",), ("no-such-command",)])
def test_wrong_usage_of_any_command_exits_with_2(words: tuple[str, ...]) -> None:
    assert lightbulb(*words).returncode == 2


# ---- one line and an exit code for every failure ------------------------------------------------------------------------


def assert_one_line(ran: Ran, *parts: str) -> None:
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1), ran
    assert "Traceback" not in ran.stderr
    assert "hush" not in ran.stderr
    assert all(part in ran.stderr for part in parts), ran.stderr


def run_complete(name: str, *more: str) -> Ran:
    return lightbulb(*name.split(), *WORDS.get(name, ()), *more)


@pytest.mark.parametrize("name", ASKS_SERVERS)
def test_servers_that_are_away_are_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, value in AWAY.items():
        monkeypatch.setenv(setting, value)
    assert_one_line(run_complete(name), "is not reachable")


@pytest.mark.parametrize("name", sorted(OF_AN_INSTALLATION))
def test_a_file_instead_of_the_data_folder_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_one_line(run_complete(name, "--data", str(tmp_path / "file")), f"{tmp_path / 'file'} is not a folder")


@pytest.mark.parametrize("name", sorted(OF_AN_INSTALLATION - {"up"}))
def test_without_an_installation_a_command_names_the_file_and_the_next_step(name: str, tmp_path: Path) -> None:
    for content, text in ((None, "is not there. Start one with `lightbulb up`"), ("{", "damaged"), ("[]", "damaged")):
        if content is not None:
            (tmp_path / "addresses.json").write_text(content)
        assert_one_line(run_complete(name, "--data", str(tmp_path)), str(tmp_path / "addresses.json"), text)


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("DATABASE", "mysql://user:hush@host/none", "LIGHTBULB_DATABASE: postgresql+asyncpg://user"),
        ("DATABASE", "postgresql+asyncpg://user:hush@host:port/none", "LIGHTBULB_DATABASE: postgresql+asyncpg://user"),
        ("DATABASE", "postgresql+asyncpg://user:hush@no-such-host.invalid/none", "host in LIGHTBULB_DATABASE"),
        ("KAFKA", "somewhere", "LIGHTBULB_KAFKA: host:port"),
    ],
)
def test_settings_of_commands_that_are_not_valid_are_one_line(
    setting: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, at in {**AWAY, f"LIGHTBULB_{setting}": value}.items():
        monkeypatch.setenv(name, at)
    assert_one_line(lightbulb("status"), text)


@pytest.mark.parametrize(
    ("changed", "text"),
    [("://lightbulb:", "user or password"), ("/", "no database of the name")],
)
def test_a_refused_login_is_one_line(postgres: str, changed: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = f"{postgres}no" if changed == "/" else postgres.replace(changed, f"{changed}hush")
    monkeypatch.setenv("LIGHTBULB_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("LIGHTBULB_DATABASE", refused)
    for name in ("migrate", "status", "quarantine list"):
        assert_one_line(lightbulb(*name.split()), text)


def test_kafka_that_is_away_is_one_line(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBULB_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("LIGHTBULB_DATABASE", migrated)
    assert_one_line(lightbulb("migrate"), "Kafka is not reachable (KafkaConnectionError)")


def test_libraries_write_nothing_to_stderr(migrated: str) -> None:
    settings = {"LIGHTBULB_DATABASE": migrated, "LIGHTBULB_KAFKA": "127.0.0.1:1"}
    program = [sys.executable, "-m", "infra", "status", "--check"]
    ran = subprocess.run(program, capture_output=True, text=True, cwd=CHECKOUT, env=os.environ | settings)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "KafkaConnectionError" in ran.stdout


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        program = [sys.executable, "-m", "infra", "directory", "check", "--json"]
        ran = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)
    assert (ran.returncode, ran.stderr.count("\n"), "No space left on device" in ran.stderr) == (1, 1, True)


def test_a_defect_is_one_line_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ValueError("hush")

    monkeypatch.setattr(main, "database_of", fail)
    monkeypatch.delenv("LIGHTBULB_LOG_LEVEL", raising=False)
    assert_one_line(lightbulb("migrate"), "ValueError at tests/end_to_end/test_command_line.py:")


@pytest.mark.parametrize("megabytes", [15, 40, 80])
def test_an_interrupt_during_or_soon_after_the_imports_ends_with_130(megabytes: int) -> None:
    program = [sys.executable, "-m", "infra", "quarantine", "list"]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the command waits for an answer of its database
        address = f"postgresql+asyncpg://user:hush@127.0.0.1:{silent.getsockname()[1]}/none"
        settings = os.environ | {"LIGHTBULB_DATABASE": address}
        streams = {"stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(program, cwd=CHECKOUT, env=settings, preexec_fn=interruptible, **streams) as command:
            while psutil.Process(command.pid).memory_info().rss < megabytes * 1_000_000:  # the modules fill it
                time.sleep(0.005)
            command.send_signal(signal.SIGINT)
            _, stderr = command.communicate(timeout=30)
    assert command.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in stderr


def interruptible() -> None:
    """Let SIGINT end this process: whatever runs the tests in the background may ignore it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_version_is_that_of_the_project() -> None:
    ran = lightbulb("--version")
    assert (ran.returncode, ran.stdout) == (0, f"lightbulb {metrics.version()}\n")


# ---- reviewed data --------------------------------------------------------------------------------------------------


def test_directory_check_passes_our_directory_and_names_a_planted_fault(tmp_path: Path) -> None:
    assert lightbulb("directory", "check").returncode == 0
    planted = tmp_path / "directory"
    shutil.copytree(CHECKOUT / "infra" / "reference_data", planted)
    hubs = planted / "hubs.yaml"
    hubs.write_text(hubs.read_text().replace("E07000130", "E07000999", 1))
    ran = lightbulb("directory", "check", str(planted))
    assert ran.returncode == 1
    assert f"{hubs}:8: county.E07000999: no hub serves E07000999 without a last day" in ran.stderr
    told = json.loads(lightbulb("directory", "check", str(planted), "--json").stdout)
    assert {(fault["file"], fault["line"]) for fault in told} == {(str(hubs), 8), (str(hubs), 27)}
