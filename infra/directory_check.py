"""Everything that can be told of the reviewed files before a service reads them."""

from pathlib import Path

from services import directory, partners, reviewed
from services.intake.translators import form
from services.notifier import words


def faults(folder: Path) -> list[str]:
    """Each fault in one line: which file, where in it, what is wrong. None where the services may use the folder."""
    found = [str(fault) for fault in directory.check(folder)]
    try:
        partners.load(folder, None)
    except reviewed.Faulty as fault:
        found += str(fault).splitlines()
    try:
        form.load(folder / "forms")
    except reviewed.Faulty as fault:
        found += str(fault).splitlines()
    if not found:
        try:
            words.load(folder, directory.load(folder))
        except words.WordsFault as fault:
            found += str(fault).splitlines()
    return found
