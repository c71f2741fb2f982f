"""`lightbulb send FOLDER` against a real intake: what is sent, when again, what is written, and what is left alone."""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from infra.cli import send_command
from infra.cli.main import app
from infra.cli.terminal import CommandError
from infra.partner_simulators import send
from infra.partner_simulators.send import FileSender, folder
from infra.partner_simulators.send.folder import FolderEntry
from services.runtime import process
from services.runtime.settings import CHECKOUT
from tests.builders.csv import COUNCILS, a_file, a_row
from tests.builders.workbook import a_workbook
from tests.intake.running import InProcess, rows

EXAMPLE = CHECKOUT / "examples" / "mrs-v.json"


@pytest.fixture
async def addresses(intake: InProcess) -> AsyncIterator[dict[str, Any]]:
    """The content of addresses.json, of intake on a port."""
    opened = process.a_socket("127.0.0.1", 0)
    server = process.server(intake.app)
    serving = asyncio.create_task(server.serve(sockets=[opened]))
    tokens = {partner: {"token": token} for partner, token in intake.installation.tokens.items()}
    yield {"intake": f"http://127.0.0.1:{opened.getsockname()[1]}", "partners": tokens}
    server.should_exit = True
    await serving


@pytest.fixture
async def sender(addresses: dict[str, Any]) -> AsyncIterator[FileSender]:
    async with send.open_sender(addresses, report="text/csv") as opened:
        yield opened


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files need not wait until they count as settled."""
    monkeypatch.setattr(folder, "SETTLED_SECONDS", 0.0)
    made = tmp_path / "exports"
    made.mkdir()
    return made


async def sent(exports: Path, sender: FileSender) -> dict[str, FolderEntry]:
    return {entry.file.name: entry async for entry in folder.send_folder(exports, sender)}


def names(exports: Path) -> set[str]:
    return {file.name for file in exports.iterdir()}


def outcomes(entries: dict[str, FolderEntry]) -> dict[str, str | None]:
    return {name: entry.result.outcome if entry.result else None for name, entry in entries.items()}


async def test_each_file_is_sent_and_its_answer_written_next_to_it(exports: Path, sender: FileSender) -> None:
    for council in COUNCILS:
        (exports / f"{council}.csv").write_bytes(a_file(council))
    (exports / "referral.json").write_text(EXAMPLE.read_text())
    entries = await sent(exports, sender)
    assert set(outcomes(entries).values()) == {"accepted"}
    assert len(entries) == len(COUNCILS) + 1
    for council, mapping in COUNCILS.items():
        report = (exports / f"{council}.csv.report.csv").read_bytes().decode(mapping.file.codec)
        assert "lightbulb_outcome" in report
        assert "received" in report
        result = entries[f"{council}.csv"].result
        assert result is not None
        assert result.rows is not None
        assert (result.rows.counts["rows"], result.rows.counts["received"]) == (1, 1), council
    assert json.loads((exports / "referral.json.report.json").read_bytes())["resourceType"] == "Bundle"


async def test_a_workbook_is_sent_by_the_council_whose_header_it_has_and_its_report_is_csv(
    exports: Path, sender: FileSender
) -> None:
    for council in COUNCILS:
        (exports / f"{council}.xlsx").write_bytes(a_workbook(council))
    for entry in (await sent(exports, sender)).values():
        result = entry.result
        assert result is not None
        assert result.rows is not None
        assert f"workbook of {entry.file.stem}" == result.format_name
        assert (result.outcome, result.rows.counts["received"]) == ("accepted", 1), entry.file.name
    assert b"lightbulb_outcome" in (exports / "melton.xlsx.report.csv").read_bytes()


async def test_what_is_written_is_for_its_owner_only(exports: Path, sender: FileSender) -> None:
    (exports / "blaby.csv").write_bytes(a_file("blaby"))
    await sent(exports, sender)
    written = names(exports) - {"blaby.csv"}
    assert written == {"blaby.csv.report.csv", folder.STATE}
    assert {oct((exports / name).stat().st_mode & 0o777) for name in written} == {"0o600"}


async def test_only_what_is_new_or_changed_is_sent_again(
    exports: Path, sender: FileSender, engine: AsyncEngine
) -> None:
    one, two = exports / "one.csv", exports / "two.csv"
    one.write_bytes(a_file("blaby", [a_row("blaby", Case_Ref="1", NHS_No="")]))
    two.write_bytes(a_file("blaby", [a_row("blaby", Case_Ref="2", NHS_No="", Sex="woman")]))
    assert outcomes(await sent(exports, sender)) == {"one.csv": "accepted", "two.csv": "refused"}
    again = await sent(exports, sender)
    assert [entry.unchanged for entry in again.values()] == [True, True]
    assert len(await rows(engine, "select 1 from intake.upload")) == 2
    kept = two.stat()
    two.write_bytes(a_file("blaby", [a_row("blaby", Case_Ref="2", NHS_No="")]))
    os.utime(two, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert outcomes(await sent(exports, sender)) == {"one.csv": None, "two.csv": "accepted"}
    assert "received" in (exports / "two.csv.report.csv").read_text()


async def test_a_file_without_its_report_or_a_folder_without_its_state_is_sent_again(
    exports: Path, sender: FileSender
) -> None:
    (exports / "blaby.csv").write_bytes(a_file("blaby"))
    for lost in ("blaby.csv.report.csv", folder.STATE, None):
        assert outcomes(await sent(exports, sender)) == {"blaby.csv": "accepted"}
        (exports / (lost or folder.STATE)).unlink()
    (exports / folder.STATE).write_text("{")
    assert outcomes(await sent(exports, sender)) == {"blaby.csv": "accepted"}


async def test_a_file_that_was_not_answered_is_sent_again_and_has_no_report(exports: Path, sender: FileSender) -> None:
    (exports / "blaby.csv").write_bytes(a_file("blaby"))
    away = replace(sender, addresses={**sender.addresses, "intake": "http://127.0.0.1:9"})
    assert outcomes(await sent(exports, away)) == {"blaby.csv": "unavailable"}
    assert names(exports) == {"blaby.csv"}
    assert outcomes(await sent(exports, sender)) == {"blaby.csv": "accepted"}


async def test_a_file_whose_rows_were_not_all_processed_is_sent_again(
    exports: Path, sender: FileSender, intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.intake.limits.WINDOW_ROWS", 2)
    made = [a_row("blaby", Case_Ref=str(at), NHS_No="") for at in range(1, 7)]
    (exports / "blaby.csv").write_bytes(a_file("blaby", made))

    def stop(*_: object) -> None:
        intake.intake.stopping.set()

    assert outcomes(await sent(exports, replace(sender, progress=stop)))["blaby.csv"] in ("in part", "accepted")
    intake.intake.stopping.clear()
    counted = (exports / "blaby.csv.report.csv").read_text().count("not-processed")
    again = await sent(exports, sender)
    assert again["blaby.csv"].unchanged is (counted == 0)


async def test_a_refused_file_has_its_reasons_next_to_it_and_a_corrected_one_only_the_new_report(
    exports: Path, sender: FileSender
) -> None:
    file = exports / "blaby.csv"
    file.write_bytes(a_file("blaby").replace(b"Budget Code", b"Budget Code,extra"))
    by_council = replace(sender, by="council-blaby")
    assert outcomes(await sent(exports, by_council)) == {"blaby.csv": "refused"}
    assert json.loads((exports / "blaby.csv.report.json").read_bytes())["expected_columns"]
    file.write_bytes(a_file("blaby"))
    await sent(exports, by_council)
    assert names(exports) == {"blaby.csv", "blaby.csv.report.csv", folder.STATE}


async def test_a_dry_run_stores_nothing_and_does_not_count_as_sent(
    exports: Path, sender: FileSender, engine: AsyncEngine
) -> None:
    (exports / "blaby.csv").write_bytes(a_file("blaby"))
    (exports / "referral.json").write_text(EXAMPLE.read_text())
    dry = await sent(exports, replace(sender, dry_run=True))
    assert outcomes(dry) == {"blaby.csv": "accepted", "referral.json": "not sent"}
    assert await rows(engine, "select 1 from intake.message") == []
    assert "lightbulb_dry_run_outcome" in (exports / "blaby.csv.dry-run.report.csv").read_text()
    assert outcomes(await sent(exports, sender)) == {"blaby.csv": "accepted", "referral.json": "accepted"}
    assert not (exports / "blaby.csv.dry-run.report.csv").exists()


# ---- left alone -----------------------------------------------------------------------------------------------------

NOT_MESSAGES = (
    "blaby.csv.part",
    "blaby.csv.tmp",
    "blaby.csv~",
    "~$blaby.xlsx",
    ".blaby.csv",
    ".~lock.blaby.csv#",
    "blaby.csv.report.csv",
    "blaby.csv.dry-run.report.csv",
    "referral.json.report.json",
    "README.md",
)


async def test_unfinished_and_hidden_files_reports_and_subfolders_are_not_sent(
    exports: Path, sender: FileSender
) -> None:
    for name in NOT_MESSAGES:
        (exports / name).write_bytes(a_file("blaby"))
    (exports / "older.csv").mkdir()
    assert await sent(exports, sender) == {}


async def test_a_file_that_changed_in_the_last_seconds_is_left_alone(
    exports: Path, sender: FileSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "SETTLED_SECONDS", 60.0)
    file = exports / "blaby.csv"
    file.write_bytes(a_file("blaby"))
    os.utime(file, (1, 1))  # a copy may keep the time of the original
    (entry,) = (await sent(exports, sender)).values()
    assert (entry.result, entry.unchanged) == (None, False)
    assert names(exports) == {"blaby.csv"}


def grows(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


def is_replaced(file: Path) -> None:
    other = file.with_suffix(".part")
    other.write_bytes(file.read_bytes())
    other.replace(file)


@pytest.mark.parametrize("happens", [grows, is_replaced, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_not_read(
    happens: Callable[[Path], None], exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = exports / "blaby.csv"
    file.write_bytes(a_file("blaby"))
    read = Path.read_bytes

    def reads_and_it_changes(self: Path) -> bytes:
        content = read(self)
        if self == file:
            monkeypatch.undo()
            happens(file)
        return content

    monkeypatch.setattr(Path, "read_bytes", reads_and_it_changes)
    assert folder.read_settled(file) is None


async def test_a_second_command_does_not_work_on_the_same_folder(exports: Path, sender: FileSender) -> None:
    (exports / "blaby.csv").write_bytes(a_file("blaby"))
    held = os.open(exports, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(send.NotSent, match="another `lightbulb send` works here"):
        await sent(exports, sender)
    os.close(held)
    assert outcomes(await sent(exports, sender)) == {"blaby.csv": "accepted"}


async def test_the_oldest_file_is_sent_first_so_that_the_newest_counts(
    exports: Path, sender: FileSender, engine: AsyncEngine
) -> None:
    for day, (name, note) in enumerate((("30-11-2026.csv", "older"), ("01-12-2026.csv", "newer")), start=1):
        (exports / name).write_bytes(a_file("melton", [a_row("melton", Remarks=note)]))
        os.utime(exports / name, (day, day))
    assert list(await sent(exports, sender)) == ["30-11-2026.csv", "01-12-2026.csv"]
    assert [row.verdict for row in await rows(engine, "select verdict from intake.message order by received_at")] == [
        *("received", "updated")
    ]


async def test_a_file_at_fault_itself_keeps_no_other_from_being_sent(
    exports: Path, sender: FileSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at, name in enumerate(("a.csv", "b" * 240 + ".csv", "c.csv")):
        (exports / name).write_bytes(a_file("blaby"))
        os.utime(exports / name, (at, at))
    read = Path.read_bytes

    def refused(file: Path) -> bytes:
        if file.name == "a.csv":
            raise PermissionError(13, "Permission denied")
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert list(outcomes(await sent(exports, sender)).values()) == ["not sent", "not sent", "accepted"]


async def test_a_report_that_cannot_be_written_leaves_no_part_of_it_and_the_file_is_sent_again(
    exports: Path, sender: FileSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    (exports / "blaby.csv").write_bytes(a_file("blaby"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            await sent(exports, sender)
    assert names(exports) == {"blaby.csv"}
    assert outcomes(await sent(exports, sender)) == {"blaby.csv": "accepted"}


# ---- the command ----------------------------------------------------------------------------------------------------


async def test_the_command_prints_a_line_for_each_file_and_a_summary(
    exports: Path, addresses: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (exports / "bad.csv").write_bytes(a_file("blaby", [a_row("blaby", Sex="woman")]))
    (exports / "good.csv").write_bytes(a_file("melton"))
    assert not await send_command.send_all([exports], addresses)
    assert await send_command.send_all([exports], addresses)
    printed = capsys.readouterr().out
    assert "bad.csv: CSV of blaby, from council-blaby: HTTP 200 refused 1 rows: 1 refused" in printed
    assert "report: good.csv.report.csv" in printed
    assert "2 files: 1 refused, 1 accepted" in printed
    assert "2 files: 2 unchanged" in printed
    assert "woman" not in printed


async def test_the_command_prints_the_notes_on_a_file_and_says_that_it_was_a_dry_run(
    exports: Path, addresses: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    many = [a_row("blaby", Case_Ref=str(at), NHS_No="") for at in range(1, 21)]
    (exports / "many.csv").write_bytes(a_file("blaby", many))
    (exports / "few.csv").write_bytes(a_file("blaby"))
    assert await send_command.send_all([exports / "many.csv"], addresses)
    assert await send_command.send_all([exports / "few.csv"], addresses, dry_run=True)
    printed = capsys.readouterr().out
    assert "few.csv: dry run of CSV of blaby, from council-blaby: HTTP 200 accepted 1 rows: 1 received" in printed
    assert "note · the number of rows is 1" in printed


@pytest.mark.parametrize(
    ("words", "code", "says", "stored"),
    [
        (["good.csv"], 0, "good.csv: CSV of melton", 1),
        (["good.csv", "bad.csv"], 1, "1 rows: 1 refused", 2),
        (["--dry-run", "good.csv"], 0, "good.csv: dry run of CSV of melton", 0),
        (["--sender", "council-melton", "good.csv"], 0, "from council-melton: HTTP 200 accepted", 1),
        (["--sender", "nobody", "good.csv"], 1, "does not contain partner nobody", 0),
        (["."], 1, "2 files: 1 refused, 1 accepted", 2),
        (["--dry-run", "."], 1, "2 files: 1 refused, 1 accepted", 0),
    ],
)
async def test_the_command_line_sends_and_exits_as_its_help_says(
    words: list[str], code: int, says: str, stored: int, exports: Path, addresses: dict[str, Any], engine: AsyncEngine
) -> None:
    (exports / "bad.csv").write_bytes(a_file("blaby", [a_row("blaby", Sex="woman")]))
    (exports / "good.csv").write_bytes(a_file("melton"))
    written = {"notifier": "", "kafka": "", "postgres": "", **addresses}
    (exports.parent / "addresses.json").write_text(json.dumps(written))
    named = [word if word.startswith(("--", "council", "nobody")) else str(exports / word) for word in words]
    command = ["send", *named, "--data", str(exports.parent)]
    ran = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert (ran.exit_code, says in ran.output) == (code, True), ran.output
    assert len(await rows(engine, "select 1 from intake.message")) == stored


async def test_a_folder_that_cannot_be_written_is_an_error(
    exports: Path, addresses: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CommandError, match="reports cannot be written here"):
        await send_command.send_all([exports], addresses)
