"""The directory's files by version, kept in the database: a replay decides with those that each decision was made with."""

import json
import tempfile
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.reference import directory as directories
from services.reference.directory import Directory
from services.runtime.database import Transaction


class DirectoryVersionMissing(Exception):
    """The files of a version are not, or no longer, what the version says; the text says which."""


async def store_directory(engine: AsyncEngine, folder: Path, version: str) -> None:
    """Keep the files that the directory of this version was read from. Safe to repeat; raises NotKept where they changed since."""
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
    """Every directory that was kept, by version."""
    rows = (await tx.execute(text("select version, files from router.directory_version"))).all()
    return {row.version: directory_of(row.version, row.files) for row in rows}


def directory_of(version: str, files: dict[str, str]) -> Directory:
    """The directory that these files make; raises NotKept where that is another version."""
    with tempfile.TemporaryDirectory(prefix="lightbulb-directory-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        loaded = directories.load(Path(folder))
    if loaded.version != version:
        raise DirectoryVersionMissing(f"the files of directory version {version} make version {loaded.version}")
    return loaded
