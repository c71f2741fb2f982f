"""Checks across the files of the directory: contradictions, missing entries, and entries without effect."""

from collections.abc import Iterator
from datetime import date

from schemas.referral import DISABLED_FACILITIES_GRANT, INFORMATION_ADVICE
from services.reference import yaml_files
from services.reference.directory.model import (
    AuthoritiesFile,
    Directory,
    Files,
    Hub,
    HubsFile,
    ServicesFile,
    ValidityPeriod,
    fold,
)
from services.reference.yaml_files import ConfigFile, ConfigIssue, Loc


def find_issues(directory: Directory, files: Files) -> Iterator[ConfigIssue]:
    """Yield the issues of the directory, each with its file and line."""
    yield from _hub_issues(directory, files.hubs)
    yield from _site_issues(files.hubs)
    yield from _trust_issues(files.hubs)
    yield from _listed_hospital_issues(directory, files.hubs)
    yield from _desk_issues(files.hubs)
    yield from _district_issues(directory, files.hubs)
    yield from _authority_issues(directory, files.authorities)
    yield from _service_issues(files.services)
    for place, full in enumerate(directory.full):
        if directory.hub(full.hub) is None:
            yield files.capacity.issue(("full", place, "hub"), f"{full.hub} is not a hub")


def _hub_issues(directory: Directory, file: ConfigFile[HubsFile]) -> Iterator[ConfigIssue]:
    for place in yaml_files.duplicates([hub.id for hub in directory.hubs]):
        yield file.issue(("hubs", place, "id"), f"two hubs have the id {directory.hubs[place].id}")
    for place, hub in enumerate(directory.hubs):
        if hub.kind == "locality" and not hub.districts:
            yield file.issue(("hubs", place), "is a locality hub, but serves no district")
        if hub.overflow is not None and directory.hub(hub.overflow) is None:
            yield file.issue(("hubs", place, "overflow"), f"{hub.overflow} is not a hub")
        if hub.overflow is not None and _returns_to(directory, hub.id):
            yield file.issue(("hubs", place, "overflow"), "the overflow chain leads back to this hub")
    if [hub.kind for hub in directory.hubs].count("triage") != 1:
        yield file.issue(("hubs",), "exactly one hub of kind triage is required")
    if not any(hub.kind == "hospital" and not hub.restricted for hub in directory.hubs):
        yield file.issue(("hubs",), "a hub of kind hospital that is not restricted is required")


def _site_issues(file: ConfigFile[HubsFile]) -> Iterator[ConfigIssue]:
    used: set[str] = set()
    for place, hub in enumerate(file.value.hubs):
        if hub.kind != "hospital" and (hub.sites or hub.trusts or hub.restricted):
            yield file.issue(
                ("hubs", place), "is not of kind hospital: it has no sites and no trusts, and is not restricted"
            )
        for number, site in enumerate(hub.sites):
            for word in (site.name, *site.aliases):
                if (same := fold(word)) in used or not same:
                    text = f"two sites have the name or code {word}" if same else f"{word} has no letter or digit"
                    yield file.issue(("hubs", place, "sites", number), text)
                used.add(same)


def _trust_issues(file: ConfigFile[HubsFile]) -> Iterator[ConfigIssue]:
    """Yield an issue for each trust of two teams. A code may be that of a site, which begins with the code of its trust."""
    used: list[str] = []
    for place, hub in enumerate(file.value.hubs):
        for number, trust in enumerate(hub.trusts):
            if any(trust.startswith(other) or other.startswith(trust) for other in used):
                yield file.issue(("hubs", place, "trusts", number), f"the stays of {trust} belong to an earlier team")
            used.append(trust)


def _listed_hospital_issues(directory: Directory, file: ConfigFile[HubsFile]) -> Iterator[ConfigIssue]:
    for place, hub in enumerate(file.value.hubs):
        if hub.community_hospitals and not (hub.restricted and hub.trusts):
            loc: Loc = ("hubs", place, "community_hospitals")
            yield file.issue(loc, "has no effect: the hub is not restricted, or takes the stays of no trust")
        yield from _entry_issues(directory, file, place, hub)


def _entry_issues(directory: Directory, file: ConfigFile[HubsFile], place: int, hub: Hub) -> Iterator[ConfigIssue]:
    found = [directory.site(one.site) for one in hub.community_hospitals]
    twice = set(yaml_files.duplicates([team_site[1].name if team_site else None for team_site in found]))
    for number, (one, team_site) in enumerate(zip(hub.community_hospitals, found, strict=True)):
        loc: Loc = ("hubs", place, "community_hospitals", number)
        if team_site is None or team_site[0].restricted:
            yield file.issue((*loc, "site"), f"{one.site} is not a site of a hospital team that is not restricted")
        if number in twice:
            yield file.issue((*loc, "site"), f"{one.site} is listed twice")
        wards = [fold(ward) for ward in one.wards]
        again = set(yaml_files.duplicates(wards))
        for order, ward in enumerate(wards):
            named = directory.site(ward)
            if order in again or not ward or (named is not None and named[0].restricted):
                yield file.issue((*loc, "wards", order), _ward_fault(one.wards[order], bool(ward), order in again))


def _ward_fault(ward: str, has_letters: bool, is_again: bool) -> str:
    if not has_letters:
        return f"{ward} has no letter or digit"
    return f"{ward} is listed twice" if is_again else f"{ward} is a name of a restricted unit"


def _desk_issues(file: ConfigFile[HubsFile]) -> Iterator[ConfigIssue]:
    for place, hub in enumerate(file.value.hubs):
        for name in ("partners", "kinds"):
            entries = [(desk, i, one) for desk, it in enumerate(hub.desks) for i, one in enumerate(getattr(it, name))]
            for order in yaml_files.duplicates([one for _, _, one in entries]):
                desk, number, one = entries[order]
                loc = ("hubs", place, "desks", desk, name, number)
                yield file.issue(loc, f"has no effect: {one} goes to an earlier desk")


def _district_issues(directory: Directory, file: ConfigFile[HubsFile]) -> Iterator[ConfigIssue]:
    county = {district.code for district in directory.county}
    entries = [
        (("hubs", place, "districts", number), hub, district)
        for place, hub in enumerate(directory.hubs)
        for number, district in enumerate(hub.districts)
    ]
    for order, (loc, hub, district) in enumerate(entries):
        if directory.authority_for_district(district.code):
            yield file.issue(loc, f"{district.code} is also the code of an authority outside the county")
        if district.code not in county:
            yield file.issue(loc, f"{district.code} is not a district of the county")
        for _, other, earlier in entries[:order]:
            if earlier.code == district.code and _overlap(district, earlier):
                yield file.issue(loc, f"{other.id} and {hub.id} both serve {district.code} on the same day")
    lasting = {district.code for _, _, district in entries if district.to is None}
    for place, one in enumerate(directory.county):
        if one.code not in lasting:
            yield file.issue(("county", place), f"no hub serves {one.code} without a last day")


def _authority_issues(directory: Directory, file: ConfigFile[AuthoritiesFile]) -> Iterator[ConfigIssue]:
    hubs, listed = [hub.id for hub in directory.hubs], directory.authorities
    for place in yaml_files.duplicates([*hubs, *(authority.id for authority in listed)]):
        if place >= len(hubs):
            yield file.issue(("authorities", place - len(hubs), "id"), "another hub or authority has this id too")
    for place in yaml_files.duplicates([authority.code for authority in listed]):
        yield file.issue(("authorities", place, "code"), f"two authorities have the code {listed[place].code}")


def _service_issues(file: ConfigFile[ServicesFile]) -> Iterator[ConfigIssue]:
    offered = [offer.service for offer in file.value.services]
    for place in yaml_files.duplicates(offered):
        yield file.issue(("services", place), f"{offered[place]} is listed twice")
    for service in (INFORMATION_ADVICE, DISABLED_FACILITIES_GRANT):
        if service not in offered:
            yield file.issue(("services",), f"{service} is missing: the hub has rules that need it")


def _overlap(one: ValidityPeriod, other: ValidityPeriod) -> bool:
    return one.from_ <= (other.to or date.max) and other.from_ <= (one.to or date.max)


def _returns_to(directory: Directory, start: str) -> bool:
    passed: set[str] = set()
    hub = directory.hub(start)
    while hub is not None and hub.overflow is not None and hub.id not in passed:
        passed.add(hub.id)
        hub = directory.hub(hub.overflow)
        if hub is not None and hub.id == start:
            return True
    return False
