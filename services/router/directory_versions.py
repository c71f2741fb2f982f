"""Directory files by version, stored in the database, so that a replay uses the version of each decision."""

import json
import tempfile
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.reference import directory as directories
from services.reference.directory import Directory
from services.runtime import StartupError
from services.runtime.database import Transaction


class DirectoryVersionMissing(StartupError):
    """The files of a directory version do not match it; the message names the version."""


async def store_directory(engine: AsyncEngine, folder: Path, version: str) -> None:
    """Store the files of this directory version once; raise DirectoryVersionMissing if they have changed since."""
    async with engine.begin() as tx:
        if await tx.scalar(
            text("select 1 from router.directory_version where version = :version"), {"version": version}
        ):
            return
        files = {name: (folder / name).read_text(encoding="utf-8") for name in directories.FILES}
        directory_of(version, files)
        await tx.execute(
            text("""insert into router.directory_version (version, files) values (:version, cast(:files as jsonb))
                    on conflict do nothing"""),
            {"version": version, "files": json.dumps(files)},
        )


async def stored_directories(tx: Transaction) -> dict[str, Directory]:
    """Return every stored directory by version."""
    rows = (await tx.execute(text("select version, files from router.directory_version"))).all()
    return {row.version: directory_of(row.version, row.files) for row in rows}


def directory_of(version: str, files: dict[str, str]) -> Directory:
    """Return the directory of these files; raises DirectoryVersionMissing if it has another version."""
    with tempfile.TemporaryDirectory(prefix="lightbulb-directory-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        loaded = directories.load(Path(folder))
    if loaded.version != version:
        raise DirectoryVersionMissing(f"the files of directory version {version} have version {loaded.version}")
    return loaded
