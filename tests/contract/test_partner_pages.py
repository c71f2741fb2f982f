"""docs/partners agrees with the reviewed files, and leaves out nothing that they say."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.docgen import __main__ as command
from infra.docgen import pages
from infra.docgen.partner_pages import index
from services.intake.translators import cleaning, council_csv, form, hl7v2
from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.standard_fields import READS
from services.reference import directory, fillers, partners
from services.runtime.settings import CHECKOUT

PAGES = index.generated(pages.DIRECTORY)
SERVICES = directory.catalogue(pages.DIRECTORY)


def test_the_pages_agree_with_the_reviewed_files() -> None:
    differing = [name for name in pages.drift() if name.startswith("partners/")]
    assert differing == [], "run `python -m infra.docgen`, read what changed, and commit it"


def test_the_index_links_to_a_page_for_every_accepted_format() -> None:
    links = re.findall(r"\]\(([a-z0-9-]+\.md)\)", PAGES["README.md"])
    assert set(links) == PAGES.keys() - {"README.md"}
    assert len(links) == sum(len(partner.formats) for partner in partners.load(pages.DIRECTORY, None))


@pytest.mark.parametrize(("name", "one"), form.load(pages.DIRECTORY / "forms", SERVICES).items())
def test_the_page_of_a_form_describes_all_of_it(name: str, one: form.Form) -> None:
    assert all((one.fields, one.needs, one.referrers, one.consents))
    page = PAGES[f"{name}.md"]
    for field_name, field in one.fields.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{field_name}` | {field.label} |")]
        assert f"`{field.to}`" in row
        assert all(f"`{choice}`" in row for choice in field.choices)
    for need_name, need in one.needs.items():
        assert f"| `{need_name}` | {need.label} | `{need.service}`: " in page
    for kind, referrer in one.referrers.items():
        assert f"| `{kind}` | {referrer.label} | " in page
    for question, asked in one.consents.items():
        assert f"| `{question}` | {asked.label} | " in page


@pytest.mark.parametrize(
    "one", council_csv.load(pages.DIRECTORY / "councils", SERVICES).values(), ids=lambda one: one.council
)
def test_the_page_of_a_council_describes_every_column_and_code(one: council_csv.CouncilMapping) -> None:
    assert one.columns
    rows = PAGES[f"{one.partner}.md"].replace("\\|", "|").splitlines()
    for header, column in one.columns.items():
        (row,) = [line for line in rows if line.startswith(f"| `{header}` | ")]
        assert all(f"`{code}`" in row for code in (*column.codes, *column.needs, *column.flags))
    assert not one.ignored or any(all(f"`{header}`" in row for header in one.ignored) for row in rows)


@pytest.mark.parametrize("one", hl7v2.load(pages.DIRECTORY / "hl7v2", SERVICES).values(), ids=lambda one: one.partner)
def test_the_page_of_a_hospital_describes_every_field_and_code(one: hl7v2.PartnerProfile) -> None:
    page = PAGES[f"{one.partner}.md"]
    told = {**one.observations, **one.fields}
    tables = (
        one.needs.codes,
        one.reasons.codes,
        one.cancels.codes,
        one.priorities,
        one.local_ids,
        one.names,
        one.sexes,
        one.languages,
    )
    tables += (one.notes, one.site.codes if one.site else {})
    classes = (*one.stay_classes, *one.not_stay_classes, *one.restricted_vips, *one.nhs_types, *one.nhs_authorities)
    classes += (*one.home_addresses, *one.temporary_addresses)
    for code in (
        *classes,
        *told,
        *(code for table in tables for code in table),
        *(v for t in told.values() for v in t.values),
    ):
        assert f"`{code}`" in page, code
    assert all(read in page for read in one.field_paths)


def test_the_standard_fields_on_the_page_are_all_fields_that_are_read() -> None:
    said = {read.field for read in READS if not read.field.startswith("MSH")}
    read = {
        f"{segment}-{field}" for segment, fields in field_paths.READ.items() for field in fields if segment != "MSH"
    }
    assert said == read
    assert {f"MSH-{field}" for field in field_paths.READ["MSH"]} < {read.field for read in READS}


def test_the_standard_fields_on_the_page_set_these_paths_in_a_golden_pair() -> None:
    cases = sorted((CHECKOUT / "tests/contract/translators/golden").glob("hl7v2-*/*.out.json"))
    translated = [json.loads(case.read_text()).get("translated", {}).get("referral") for case in cases]
    filled = {to for referral in translated if referral for read in READS for to in read.to if _holds(referral, to)}
    assert filled == {to for read in READS for to in read.to}


def _holds(referral: Any, place: str) -> bool:
    for part in place.split("."):
        here = referral.get(part) if isinstance(referral, dict) else referral[int(part)] if referral else None
        if here is None:
            return False
        referral = here
    return True


def test_every_page_lists_what_is_cleaned_and_each_filler_of_the_installation() -> None:
    listed = fillers.load(pages.DIRECTORY)
    wanted = [*listed.nhs_numbers, *map(str, listed.dates), *listed.names, *(group.name for group in cleaning.CLEANED)]
    assert wanted
    for name in PAGES.keys() - {"README.md"}:
        section = PAGES[name].partition("## What is cleaned\n")[2]
        assert [one for one in wanted if one not in section] == [], name


def test_a_code_on_the_page_is_read_as_the_page_says() -> None:
    section = PAGES["self.md"].partition("## What is cleaned\n")[2]
    (tabs,) = [row for row in section.splitlines() if row.startswith("| tabs ")]
    assert tabs == "| tabs (U+0009) | a blank | removed at the edges; inside refused |"


def test_a_changed_source_file_is_found_by_its_page(tmp_path: Path) -> None:
    source = shutil.copytree(pages.DIRECTORY, tmp_path / "directory")
    file = source / "forms" / "self.yaml"
    file.write_text(file.read_text().replace("label: A warmer home", "label: A warm home"))
    assert pages.drift(source=source) == ["partners/self.md"]


def test_a_page_without_a_source_is_removed(tmp_path: Path) -> None:
    assert pages.write(tmp_path) == sorted(pages.generated())
    (tmp_path / "partners" / "removed.md").write_text("of a partner that was removed")
    assert pages.write(tmp_path) == ["partners/removed.md"]
    assert pages.drift(tmp_path) == []


def test_the_command_writes_nothing_if_every_page_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_the_command_names_a_page_that_differs_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(pages.DOCS, docs)
    (docs / "settings.md").unlink()
    assert command.main(["--check"], docs) == 1
    assert capsys.readouterr().out == "differs from its source, run `python -m infra.docgen`: docs/settings.md\n"
    assert command.main([], docs) == 0
    assert capsys.readouterr().out == "wrote docs/settings.md\n"
    assert command.main(["--check"], docs) == 0
