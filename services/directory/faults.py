"""What contradicts itself, is missing or is never reached in the directory, by file and line."""

from collections.abc import Iterator
from datetime import date

from schemas.referral import DISABLED_FACILITIES_GRANT, INFORMATION_ADVICE
from services import reviewed
from services.directory.model import AuthoritiesFile, Dated, Directory, Files, HubsFile, ServicesFile
from services.reviewed import Fault, Reviewed


def found(directory: Directory, files: Files) -> Iterator[Fault]:
    """What contradicts itself or is missing."""
    yield from _hub_faults(directory, files.hubs)
    yield from _site_faults(files.hubs)
    yield from _desk_faults(files.hubs)
    yield from _district_faults(directory, files.hubs)
    yield from _authority_faults(directory, files.authorities)
    yield from _service_faults(files.services)
    for place, full in enumerate(directory.full):
        if directory.hub(full.hub) is None:
            yield files.capacity.fault(("full", place, "hub"), f"{full.hub} is not a hub")


def _hub_faults(directory: Directory, file: Reviewed[HubsFile]) -> Iterator[Fault]:
    for place in reviewed.again([hub.id for hub in directory.hubs]):
        yield file.fault(("hubs", place, "id"), f"{directory.hubs[place].id} is named twice")
    for place, hub in enumerate(directory.hubs):
        if hub.kind == "locality" and not hub.districts:
            yield file.fault(("hubs", place), "serves no district")
        if hub.overflow is not None and directory.hub(hub.overflow) is None:
            yield file.fault(("hubs", place, "overflow"), f"{hub.overflow} is not a hub")
        if hub.overflow is not None and _returns_to(directory, hub.id):
            yield file.fault(("hubs", place, "overflow"), "leads back to this hub")
    if [hub.kind for hub in directory.hubs].count("triage") != 1:
        yield file.fault(("hubs",), "exactly one hub of kind triage is needed")
    if not any(hub.kind == "hospital" and not hub.restricted for hub in directory.hubs):
        yield file.fault(("hubs",), "a hub of kind hospital that is not restricted is needed")


def _site_faults(file: Reviewed[HubsFile]) -> Iterator[Fault]:
    seen: set[str] = set()
    for place, hub in enumerate(file.value.hubs):
        for number, site in enumerate(hub.sites):
            for word in sorted(site.words.keys() & seen):
                yield file.fault(("hubs", place, "sites", number), f"{site.words[word]} names two sites")
            seen.update(site.words)


def _desk_faults(file: Reviewed[HubsFile]) -> Iterator[Fault]:
    for place, hub in enumerate(file.value.hubs):
        for name in ("partners", "kinds"):
            entries = [(desk, i, one) for desk, it in enumerate(hub.desks) for i, one in enumerate(getattr(it, name))]
            for order in reviewed.again([one for _, _, one in entries]):
                desk, number, one = entries[order]
                loc = ("hubs", place, "desks", desk, name, number)
                yield file.fault(loc, f"is never reached: {one} goes to a desk before this one")


def _district_faults(directory: Directory, file: Reviewed[HubsFile]) -> Iterator[Fault]:
    county = {district.code for district in directory.county}
    entries = [
        (("hubs", place, "districts", number), hub, district)
        for place, hub in enumerate(directory.hubs)
        for number, district in enumerate(hub.districts)
    ]
    for order, (loc, hub, district) in enumerate(entries):
        if district.to is not None and district.to < district.from_:
            yield file.fault((*loc, "to"), "ends before it begins")
        if directory.authority_for_district(district.code):
            yield file.fault(loc, f"{district.code} is also an authority outside the county")
        if district.code not in county:
            yield file.fault(loc, f"{district.code} is not a district of the county")
        for _, other, earlier in entries[:order]:
            if earlier.code == district.code and _overlap(district, earlier):
                yield file.fault(loc, f"{district.code} is served twice on the same day: by {other.id} and {hub.id}")
    lasting = {district.code for _, _, district in entries if district.to is None}
    for place, one in enumerate(directory.county):
        if one.code not in lasting:
            yield file.fault(("county", place), f"no hub serves {one.code} until further notice")


def _authority_faults(directory: Directory, file: Reviewed[AuthoritiesFile]) -> Iterator[Fault]:
    hubs, listed = [hub.id for hub in directory.hubs], directory.authorities
    for place in reviewed.again([*hubs, *(authority.id for authority in listed)]):
        if place >= len(hubs):
            yield file.fault(("authorities", place - len(hubs), "id"), "is named twice")
    for place in reviewed.again([authority.code for authority in listed]):
        yield file.fault(("authorities", place, "code"), f"{listed[place].code} has two authorities")


def _service_faults(file: Reviewed[ServicesFile]) -> Iterator[Fault]:
    offered = [offer.service for offer in file.value.services]
    for place in reviewed.again(offered):
        yield file.fault(("services", place), f"{offered[place]} is there twice")
    for service in (INFORMATION_ADVICE, DISABLED_FACILITIES_GRANT):
        if service not in offered:
            yield file.fault(("services",), f"{service} is missing: the services have rules for it")


def _overlap(one: Dated, other: Dated) -> bool:
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
