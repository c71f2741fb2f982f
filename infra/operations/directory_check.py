"""Check the reviewed files before a service reads them: each file separately, then the references between them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from services.intake.translators import council_csv, form, hl7v2
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.form import Form
from services.notifier import templates
from services.reference import directory, fillers, partners, texts, yaml_files
from services.reference.directory import Catalogue, Directory
from services.reference.partners import Deployment, Partner, PartnersFile
from services.reference.yaml_files import ConfigError, ConfigFile, ConfigIssue, Loc
from services.runtime import settings


def find_issues(folder: Path, deployment: Path | None = None) -> list[ConfigIssue]:
    """Return each fault with file, line, place and text; none if the services can use the folder, and `deployment` with it."""
    try:
        hubs = _each_file(folder, deployment)
    except ConfigError as error:
        return list(error.issues)
    files = _Files.of(folder, hubs)
    return [*_between(files), *(_deployed(folder, deployment) if deployment else ())]


def find_notices(folder: Path, today: date) -> list[ConfigIssue]:
    """Return what has ended before today and has no effect any more, in files without a fault."""
    files = _Files.of(folder, directory.load(folder))
    capacity = yaml_files.load(folder / "capacity.yaml", directory.CapacityFile)
    ends: list[tuple[ConfigFile[Any], Loc, date | None]] = [
        *((capacity, ("full", place, "to"), full.to) for place, full in enumerate(capacity.value.full)),
        *(
            (files.teams, ("hubs", place, "districts", number, "to"), district.to)
            for place, hub in enumerate(files.teams.value.hubs)
            for number, district in enumerate(hub.districts)
        ),
        *((hospital, ("test_until",), hospital.value.test_until) for hospital in files.hospitals),
    ]
    return [file.issue(loc, f"ended on {end}") for file, loc, end in ends if end is not None and end < today]


def _each_file(folder: Path, deployment: Path | None) -> Directory:
    """Load every file that the services load when they start. Raise ConfigError with all faults."""
    services = _catalogue(folder)
    readings: list[Callable[[], Any]] = [
        partial(directory.load, folder),
        partial(partners.load, folder, deployment),
        partial(fillers.load, folder),
        partial(form.load, folder / "forms", services),
        partial(council_csv.load, folder / "councils", services),
        partial(hl7v2.load, folder / "hl7v2", services),
        partial(templates.templates, folder),
        partial(texts.approved_phrases, folder),
    ]
    hubs: Directory = yaml_files.gather(readings)[0]
    return hubs


def _catalogue(folder: Path) -> Catalogue | None:
    """Return the service catalogue; None if its file is not valid, which loading the directory reports."""
    try:
        return directory.catalogue(folder)
    except ConfigError:
        return None


@dataclass(frozen=True)
class _Files:
    """Every file, each valid, with the line of each entry."""

    hubs: Directory
    teams: ConfigFile[directory.HubsFile]
    partners_file: ConfigFile[PartnersFile]
    forms: list[ConfigFile[Form]]
    councils: list[ConfigFile[CouncilMapping]]
    hospitals: list[ConfigFile[hl7v2.PartnerProfile]]

    @classmethod
    def of(cls, folder: Path, hubs: Directory) -> "_Files":
        return cls(
            hubs,
            yaml_files.load(folder / "hubs.yaml", directory.HubsFile),
            yaml_files.load(folder / "partners.yaml", PartnersFile),
            yaml_files.load_all(folder / "forms", Form),
            yaml_files.load_all(folder / "councils", CouncilMapping),
            yaml_files.load_all(folder / "hl7v2", hl7v2.PartnerProfile),
        )

    def partner(self, partner_id: str) -> Partner | None:
        return next((partner for partner in self.partners_file.value.partners if partner.id == partner_id), None)


def _between(files: _Files) -> Iterator[ConfigIssue]:
    yield from _formats_without_a_file(files)
    yield from _files_without_sender(files)
    yield from _stays(files)
    yield from _sites(files)
    yield from _districts(files)
    yield from _partner_references(files)
    yield from _desks(files)


def _formats_without_a_file(files: _Files) -> Iterator[ConfigIssue]:
    forms = {f"form:{one.value.form}" for one in files.forms}
    councils = {one.value.partner for one in files.councils}
    hospitals = {one.value.partner for one in files.hospitals}
    for place, partner in enumerate(files.partners_file.value.partners):
        for number, format_ in enumerate(partner.formats):
            loc: Loc = ("partners", place, "formats", number)
            if format_.startswith("form:") and format_ not in forms:
                yield files.partners_file.issue(loc, f"there is no forms/{format_.removeprefix('form:')}.yaml")
            if format_ == "council-csv" and partner.id not in councils:
                yield files.partners_file.issue(loc, f"no file of councils/ has the partner {partner.id}")
            if format_ == "hl7v2" and partner.id not in hospitals:
                yield files.partners_file.issue(loc, f"there is no hl7v2/{partner.id}.yaml")


def _files_without_sender(files: _Files) -> Iterator[ConfigIssue]:
    for one in files.forms:
        if not any(partner.may_send(f"form:{one.value.form}") for partner in files.partners_file.value.partners):
            yield one.issue(("form",), "no partner has it among its formats")
    for council in files.councils:
        yield from _sender_issues(files, council, council.value.partner, "council-csv", "council")
    for hospital in files.hospitals:
        yield from _sender_issues(files, hospital, hospital.value.partner, "hl7v2", "hospital-team")


def _sender_issues(files: _Files, one: ConfigFile[Any], name: str, format_: str, kind: str) -> Iterator[ConfigIssue]:
    partner = files.partner(name)
    if partner is None:
        yield one.issue(("partner",), f"partners.yaml has no partner {name}")
    elif not partner.may_send(format_):
        yield one.issue(("partner",), f"{format_} is not among the formats of {name} in partners.yaml")
    elif partner.kind != kind:
        yield one.issue(("partner",), f"{name} is of kind {partner.kind} in partners.yaml; {kind} is expected")


def _stays(files: _Files) -> Iterator[ConfigIssue]:
    """Yield an issue for each partner that may report a stay and is not a hospital team: a stay moves the case."""
    stay_formats = {f"form:{one.value.form}" for one in files.forms if one.value.covers_hospital_stay}
    for place, partner in enumerate(files.partners_file.value.partners):
        for number, format_ in enumerate(partner.formats):
            if format_ in stay_formats and partner.kind != "hospital-team":
                loc: Loc = ("partners", place, "formats", number)
                yield files.partners_file.issue(
                    loc, f"{format_} reports stays in hospital: only a partner of kind hospital-team may send it"
                )


def _sites(files: _Files) -> Iterator[ConfigIssue]:
    """Yield an issue for each site that hubs.yaml does not have, and for each that a form's list of sites does not offer."""
    for one, loc, site in _meanings(files, "hospital.site"):
        if files.hubs.site(site) is None:
            yield one.issue(loc, f"hubs.yaml has no site {site}")
    known = [site.name for hub in files.hubs.hubs for site in hub.sites]
    for form_ in files.forms:
        for name, field in form_.value.fields.items():
            if field.to == "hospital.site" and field.choices:
                offered = {found[1].name for value in field.choices.values() if (found := files.hubs.site(value))}
                loc = ("fields", name, "choices")
                yield from (
                    form_.issue(loc, f"does not offer the site {site}") for site in known if site not in offered
                )


def _districts(files: _Files) -> Iterator[ConfigIssue]:
    for to in ("named_authority", "person.address.district"):
        for one, loc, district in _meanings(files, to):
            if not files.hubs.has_district(district):
                yield one.issue(loc, f"no hub and no authority has {district}")


def _meanings(files: _Files, to: str) -> Iterator[tuple[ConfigFile[Any], Loc, str]]:
    """Yield (file, place, value) of every code that a sender's file maps to this path of the referral."""
    for one in files.forms:
        for name, field in one.value.fields.items():
            if field.to == to:
                yield from ((one, ("fields", name, "choices", code), value) for code, value in field.choices.items())
    for council in files.councils:
        for header, column in council.value.columns.items():
            if column.to == to:
                yield from ((council, ("columns", header, "codes", c), value) for c, value in column.codes.items())
    for hospital in files.hospitals:
        site = hospital.value.site
        if site is not None and to == "hospital.site":
            yield from ((hospital, ("site", "codes", code), value) for code, value in site.codes.items())
        for part in ("observations", "fields"):
            for name, meaning in getattr(hospital.value, part).items():
                if meaning.to == to:
                    yield from ((hospital, (part, name, "values", c), str(v)) for c, v in meaning.values.items())


def _partner_references(files: _Files) -> Iterator[ConfigIssue]:
    hospital_teams = [hub.id for hub in files.hubs.hubs if hub.kind == "hospital"]
    for place, partner in enumerate(files.partners_file.value.partners):
        if partner.hub is not None and files.hubs.hub(partner.hub) is None:
            yield files.partners_file.issue(("partners", place, "hub"), f"hubs.yaml has no hub {partner.hub}")
        if partner.formats and partner.hub in hospital_teams:
            yield files.partners_file.issue(
                ("partners", place, "formats"),
                f"a referral of {partner.hub} would disclose a stay in hospital: only locality hubs and triage may send one",
            )
        if partner.council is not None and not files.hubs.has_district(partner.council):
            yield files.partners_file.issue(
                ("partners", place, "council"), f"no hub and no authority has {partner.council}"
            )


def _desks(files: _Files) -> Iterator[ConfigIssue]:
    for place, hub in enumerate(files.teams.value.hubs):
        for number, desk in enumerate(hub.desks):
            for order, name in enumerate(desk.partners):
                if files.partner(name) is None:
                    loc: Loc = ("hubs", place, "desks", number, "partners", order)
                    yield files.teams.issue(loc, f"partners.yaml has no partner {name}")


def _deployed(folder: Path, deployment: Path) -> Iterator[ConfigIssue]:
    """Yield an issue for each channel without an address, and each file that cannot be read or is open to other users."""
    file = yaml_files.load(deployment, Deployment)
    for one in partners.unaddressed(partners.load(folder, deployment), mesh=True):
        loc: Loc = ("partners", one.partner, "feedback_url")
        yield file.issue(loc, f"is missing: the channel of {one.partner} is {one.channel}, so its feedback waits")
    for name, access in file.value.partners.items():
        if access.feedback_token_file is not None:
            try:
                settings.check_private(access.feedback_token_file, "feedback_token_file")
            except settings.FileRefused as error:
                yield file.issue(("partners", name, "feedback_token_file"), str(error).partition(": ")[2])
