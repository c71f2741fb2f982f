"""Postcodes are loaded once, quickly, and for exactly the districts of the directory."""

import time

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.database import postcodes
from tests.builders.reference_data import DIRECTORY

ALL_LETTERS = "ABCDEFGHIJKLMNOPRSTUWYZ"


async def test_postcodes_of_the_county_and_its_neighbours_are_loaded_once(engine: AsyncEngine, migrated: str) -> None:
    async with engine.begin() as tx:
        await tx.execute(text("comment on table router.postcode is null"))
    begun = time.perf_counter()
    count = await postcodes.load(migrated)
    first = time.perf_counter() - begun
    again = await postcodes.load(migrated)
    second = time.perf_counter() - begun - first

    assert count == again > 140_000
    assert second < first / 3
    async with engine.connect() as tx:
        county = await tx.scalar(
            text("select count(*) from router.postcode where district between 'E07000129' and 'E07000135'")
        )
        placed = await tx.scalar(text("select district from router.postcode where postcode = 'LE11AA'"))
    assert county == 26_026
    assert placed == "E06000016"


async def test_a_new_release_keeps_the_former_districts_of_postcodes(
    engine: AsyncEngine, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postcodes, "rows", lambda districts: iter([("LE86AA", "E07000130"), ("LE99ZZ", "E07000129")]))
    async with engine.begin() as tx:
        await tx.execute(text("delete from router.postcode_history"))
        await tx.execute(text("comment on table router.postcode is null"))
        await tx.execute(text("delete from router.postcode where postcode not in ('LE86AA', 'LE115AA')"))
    await postcodes.load(migrated)
    async with engine.begin() as tx:
        before = (await tx.execute(text("select postcode, district from router.postcode_history order by 1"))).all()
        await tx.execute(text("comment on table router.postcode is null"))

    assert [tuple(row) for row in before] == [("LE115AA", "E07000130"), ("LE86AA", "E07000129"), ("LE99ZZ", None)]


def test_postcodes_of_these_districts_begin_with_the_loaded_areas_only() -> None:
    others = "".join(letter for letter in ALL_LETTERS if letter not in postcodes.LETTERS)

    assert list(postcodes.rows(frozenset(DIRECTORY.districts), others)) == []
