"""The help of the command line has examples, and exit codes are as documented."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.cli import main
from services.runtime.settings import CHECKOUT

COMMANDS = (
    *("up", "demo", "send", "status", "trace", "migrate", "fetch", "directory check", "republish"),
    "person doubts",
    *("quarantine list", "quarantine show", "quarantine resubmit", "quarantine discard", "replay router"),
)


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


@pytest.mark.parametrize("words", [("status",), ("trace", "LB-0000-0000-0000"), ("send", "examples/mrs-v.json")])
def test_without_an_installation_a_command_prints_an_error_and_exits_with_1(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    ran = lightbulb(*words, "--data", str(tmp_path))
    assert (ran.returncode, "Start one with `lightbulb up`" in " ".join(ran.stderr.split())) == (1, True)


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
