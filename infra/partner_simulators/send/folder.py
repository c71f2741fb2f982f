"""Send the files of a folder, and write the hub's answer next to each.

`NAME.report.csv`, `.report.json` or `.report.txt` is the answer to NAME as it came; `NAME.dry-run.report.*` that of a dry run. A file is
sent if its content has no final answer yet: its SHA-256 is not in STATE, or the report is gone. So the command can be repeated at any
time, and if STATE is lost, everything is sent again, which changes nothing at the hub. A file that may still be written is left alone.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.partner_simulators.send import FileSender
from infra.partner_simulators.send.answers import ResponseIssue, SendResult
from infra.partner_simulators.send.outgoing import NotSent

SUFFIXES = (".csv", ".xlsx", ".hl7", ".json")
"""Files that are sent. So a name under which a program writes a file (.part, .tmp, .crdownload) is not sent."""

SETTLED_SECONDS = 5.0
"""A file that changed less than this time ago is left alone."""

STATE = ".lightbulb-sent.json"
"""The SHA-256 of each file that has a final answer, by name."""

LONGEST_NAME = 235
"""Bytes of a file's name: its report's is longer, and file systems allow 255."""

FINAL = ("accepted", "duplicate", "in part", "conflict", "refused")
_HIDDEN = (".", "~$")
_REPORT = re.compile(r"\.report\.(csv|json|txt)$")


@dataclass(frozen=True)
class FolderEntry:
    """What became of a file: `result` and its `report`, or neither if it was `unchanged`, or may still be written."""

    file: Path
    result: SendResult | None = None
    report: Path | None = None
    unchanged: bool = False


async def send_folder(folder: Path, sender: FileSender) -> AsyncIterator[FolderEntry]:
    """Send what is to be sent in a folder, the oldest first; subfolders are not entered. Raise NotSent if it cannot be written."""
    with _only_one(folder):
        for file in files(folder):
            yield await _send(file, sender)


def files(folder: Path) -> list[Path]:
    """Return the files that may be sent, the oldest first, then by name: not hidden ones, nor reports.

    A council's rows may have no time of change: then what is sent last counts, and 30-11-2026 comes after 01-12-2026 by name.
    """
    found = (file for file in folder.iterdir() if _is_message(file.name) and file.is_file())
    return sorted(found, key=_changed)


def _changed(file: Path) -> tuple[int, str]:
    """Return when a file changed, and its name; it may be gone by now."""
    with contextlib.suppress(OSError):
        return file.stat().st_mtime_ns, file.name
    return 0, file.name


def _is_message(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(_HIDDEN) and not _REPORT.search(name)


async def _send(file: Path, sender: FileSender) -> FolderEntry:
    try:
        body = read_settled(file)
    except OSError as error:
        return _not_sent(file, f"the file cannot be read: {error.strerror}")
    if body is None:
        return FolderEntry(file)
    if len(os.fsencode(file.name)) > LONGEST_NAME:
        return _not_sent(file, f"the file's name has more than {LONGEST_NAME} bytes, too many for that of a report")
    digest = hashlib.sha256(body).hexdigest()
    if _answered(file.parent).get(file.name) == digest and any(_reports(file, dry_run=False)):
        return FolderEntry(file, unchanged=True)
    result = await sender.send(file, body)
    report = _write_report(file, result, dry_run=sender.dry_run)
    if report and _is_final(result) and not sender.dry_run:
        content = json.dumps(_answered(file.parent) | {file.name: digest}, indent=1)
        _write(file.parent / STATE, content.encode())
    return FolderEntry(file, result, report)


def _not_sent(file: Path, why: str) -> FolderEntry:
    """Return the entry of a file that is at fault itself; the others are sent."""
    return FolderEntry(file, SendResult(file, "unknown format", "not sent", issues=(ResponseIssue("", "", why),)))


def read_settled(file: Path) -> bytes | None:
    """Return the content of a file; None if it changed in the last seconds, changes while it is read, or is gone."""
    try:
        before = file.stat()
        if any(0 <= time.time() - at < SETTLED_SECONDS for at in (before.st_mtime, before.st_ctime)):
            return None
        body = file.read_bytes()
        after = file.stat()
    except FileNotFoundError:
        return None
    as_read = (before.st_ino, before.st_mtime_ns, len(body))
    return body if as_read == (after.st_ino, after.st_mtime_ns, after.st_size) else None


def _is_final(result: SendResult) -> bool:
    """Return whether a file need not be sent again: it was answered, and every row was processed."""
    return result.outcome in FINAL and not (result.rows and result.rows.counts.get("not-processed"))


# ---- what is written ------------------------------------------------------------------------------------------------


def _write_report(file: Path, result: SendResult, *, dry_run: bool) -> Path | None:
    """Write the answer next to the file in place of earlier ones; nothing if none came."""
    if not result.body or result.outcome == "unavailable":
        return None
    kind = "csv" if result.media_type == "text/csv" else "json" if result.media_type.endswith("json") else "txt"
    report = file.with_name(f"{file.name}{'.dry-run' if dry_run else ''}.report.{kind}")
    _write(report, result.body)
    for earlier in (*_reports(file, dry_run=True), *(() if dry_run else _reports(file, dry_run=False))):
        if earlier != report:
            earlier.unlink(missing_ok=True)
    return report


def _reports(file: Path, *, dry_run: bool) -> Iterator[Path]:
    """Yield the reports that a file has."""
    names = (f"{file.name}{'.dry-run' if dry_run else ''}.report.{kind}" for kind in ("csv", "json", "txt"))
    return filter(Path.exists, map(file.with_name, names))


def _answered(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / STATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(file: Path, content: bytes) -> None:
    """Write a whole file or nothing. Only its owner may read it: reports hold personal data."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".part")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep a second command from the folder; raise NotSent if there is one, or if nothing can be written here."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotSent(f"{folder}: reports cannot be written here; nothing was sent.")
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise NotSent(f"{folder}: another `lightbulb send` works here; nothing was sent.") from None
    finally:
        os.close(opened)
