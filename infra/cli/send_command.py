"""`lightbulb send`: files and folders, with progress, a line for each file, and a summary of each folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from infra.cli.terminal import CommandError, console
from infra.partner_simulators import send
from infra.partner_simulators.send import folder
from infra.partner_simulators.send.folder import FolderEntry


async def send_all(paths: Sequence[Path], addresses: Mapping[str, Any], **options: Any) -> bool:
    """Send files and folders in order. Return whether everything that was sent was accepted. `options`: of FileSender."""
    accepted = True
    with console.status("sending") as shown:

        def progress(file: Path, rows: int) -> None:
            shown.update(f"{escape(file.name)}: {rows} rows answered")

        async with send.open_sender(addresses, progress=progress, **options) as sender:
            for path, content in ((path, None if path.is_dir() else path.read_bytes()) for path in paths):
                if content is None:
                    accepted = await _send_folder(path, replace(sender, report="text/csv")) and accepted
                else:
                    result = await sender.send(path, content)
                    _print(result.line())
                    accepted = result.accepted and accepted
    return accepted


async def _send_folder(path: Path, sender: send.FileSender) -> bool:
    counts: Counter[str] = Counter()
    accepted = True
    try:
        async for entry in folder.send_folder(path, sender):
            counts[_outcome(entry)] += 1
            accepted = accepted and (entry.result is None or entry.result.accepted)
            _print_entry(entry)
    except (send.NotSent, OSError) as error:
        raise CommandError(str(error)) from None
    some = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    _print(f"{escape(str(path))}: {counts.total()} files: {some or 'nothing to send'}")
    return accepted


def _outcome(entry: FolderEntry) -> str:
    if entry.result:
        return entry.result.outcome
    return "unchanged" if entry.unchanged else "left alone"


def _print_entry(entry: FolderEntry) -> None:
    if entry.result:
        _print(entry.result.line())
    elif not entry.unchanged:
        _print(f"{escape(entry.file.name)}: left alone, because it changed in the last seconds")
    if entry.report:
        _print(f"    report: {escape(entry.report.name)}")


def _print(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
