"""The file of fillers: read strictly, checked with the directory, and compared as people write."""

import shutil
from datetime import date
from pathlib import Path

import pytest

from infra.operations import directory_check
from services.reference import fillers
from tests.builders.reference_data import FOLDER

SHIPPED = fillers.load(FOLDER)


@pytest.mark.parametrize("name", ["UNKNOWN", "Unknown.", " (not  known) ", "n/k", "Tbc", "FNU LNU", "Unknown, unknown"])
def test_a_filler_name_is_found_as_people_write_it(name: str) -> None:
    assert SHIPPED.is_name(name)


@pytest.mark.parametrize("name", ["Null", "Na", "Nk", "Known", "Unknown Smith", "", "-"])
def test_a_name_that_people_have_is_not_a_filler(name: str) -> None:
    assert not SHIPPED.is_name(name)


def test_numbers_and_dates_are_found() -> None:
    assert SHIPPED.is_number("9876543210")
    assert not SHIPPED.is_number("9434765919")
    assert SHIPPED.is_date(date(1900, 1, 1))
    assert not SHIPPED.is_date(date(1970, 1, 1))


def test_without_the_file_s_entries_nothing_is_a_filler() -> None:
    assert not fillers.NO_FILLERS.is_name("")
    assert not fillers.NO_FILLERS.is_name("-")


def test_directory_check_names_each_fault_of_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "directory"
    shutil.copytree(FOLDER, folder)
    assert directory_check.find_issues(folder) == []
    (folder / "fillers.yaml").write_text(
        "nhs_numbers: ['1234567890']\ndates: [1900-02-30]\nnames: ['--']\nsurnames: []\n"
    )
    assert [(one.line, one.place) for one in directory_check.find_issues(folder)] == [
        (1, "nhs_numbers.0"),
        (2, "dates.0"),
        (3, "names.0"),
        (4, "surnames"),
    ]
    (folder / "fillers.yaml").write_text("dates: [1900-01-01]\nnames: [Unknown, (unknown)]\n")
    assert [str(one).partition("fillers.yaml:")[2] for one in directory_check.find_issues(folder)] == [
        "2: names.1: unknown is listed twice"
    ]
