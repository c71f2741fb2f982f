"""The reviewed data of infra/directory: hubs, districts, authorities outside, services, capacity. Dated, and versioned by content."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError

from schemas.model import HubId, Line, OdsCode, OnsCode, PartnerId, Written
from schemas.referral import ReferrerKind, Service

FILES = ("hubs.yaml", "authorities.yaml", "services.yaml", "capacity.yaml")
"""The files of the folder that this module reads, and that the version is made of."""

Day = Annotated[date, Field(strict=False)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


class Contact(Written):
    """How the public reaches somebody."""

    phone: Line = Field(description="Telephone number")
    email: Line = Field(description="E-mail address")


class Dated(Written):
    """Something that holds from one day to another, both included."""

    from_: Day = Field(alias="from", description="First day")
    to: Day | None = Field(None, description="Last day; none: until further notice")

    def holds(self, on: date) -> bool:
        """True on the first day, the last day, and between."""
        return self.from_ <= on and (self.to is None or on <= self.to)


class District(Dated):
    """A district that a hub serves."""

    code: OnsCode = Field(description="ONS code of the district")


class CountyDistrict(Written):
    """A district of the county."""

    code: OnsCode = Field(description="ONS code")
    name: Line = Field(description="Name")


class Site(Written):
    """A hospital site: a worklist of a hospital housing team."""

    name: Words = Field(description="Its name: the name of the worklist")
    also: tuple[Words, ...] = Field((), description="Other names and codes that senders use for it")


class Desk(Written):
    """A triage desk: a worklist of central triage."""

    name: Words = Field(description="Its name: the name of the worklist")
    partners: tuple[PartnerId, ...] = Field((), description="Senders whose referrals it sees first")
    kinds: tuple[ReferrerKind, ...] = Field((), description="Kinds of referrer whose referrals it sees otherwise")


class Hub(Written):
    """A locality hub, central triage, or a hospital housing team: whoever has topics of its own and can hold a case."""

    id: HubId = Field(description="Identifier: names its topics")
    kind: Literal["locality", "triage", "hospital"] = Field(description="What it is")
    name: Line = Field(description="Name as the public knows it")
    contact: Contact = Field(description="Public contact")
    districts: tuple[District, ...] = Field((), description="Districts that it serves, dated")
    overflow: HubId | None = Field(None, description="Which hub takes its new cases while it is full")
    restricted: bool = Field(False, description="Nobody outside may learn that a person is or was with it")
    sites: tuple[Site, ...] = Field((), description="Hospital sites")
    trusts: tuple[OdsCode, ...] = Field((), description="Trusts whose stays are its own where the site is not known")
    desks: tuple[Desk, ...] = Field((), description="Triage desks; the first is the default")


class Authority(Written):
    """A housing authority outside the county: it has no topics; people are sent there."""

    id: HubId = Field(description="Identifier")
    code: OnsCode = Field(description="ONS code")
    name: Line = Field(description="Name")
    contact: Contact = Field(description="Public contact")
    refer_to: Line = Field(description="Whom to ask for there")


class Offer(Written):
    """A service, who delivers it, and its words."""

    service: Service = Field(description="The service")
    delivered: Literal["core", "commissioned", "onward", "hospital"] = Field(description="By whom")
    label: Words = Field(description="In plain words")


class Full(Dated):
    """A hub that declared itself full."""

    hub: HubId = Field(description="Which")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in the directory: which file, where in it, what."""

    file: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.what}"


class DirectoryFaulty(Exception):
    """The directory cannot be used; `faults` lists why."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


class Directory(Written):
    """Everything of it, at one version. Lookups take the day that they are for."""

    version: Line = Field(description="First 12 digits of the SHA-256 of the files")
    county: tuple[CountyDistrict, ...]
    hubs: tuple[Hub, ...]
    authorities: tuple[Authority, ...]
    services: tuple[Offer, ...]
    full: tuple[Full, ...] = ()

    @cached_property
    def _hubs(self) -> Mapping[str, Hub]:
        return {hub.id: hub for hub in self.hubs}

    @cached_property
    def _authorities(self) -> Mapping[str, Authority]:
        return {authority.id: authority for authority in self.authorities}

    @cached_property
    def _by_code(self) -> Mapping[str, Authority]:
        return {authority.code: authority for authority in self.authorities}

    @cached_property
    def _serving(self) -> Mapping[str, tuple[tuple[District, Hub], ...]]:
        codes = {district.code for hub in self.hubs for district in hub.districts}
        return {code: tuple((d, h) for h in self.hubs for d in h.districts if d.code == code) for code in codes}

    @cached_property
    def _offers(self) -> Mapping[Service, Offer]:
        return {offer.service: offer for offer in self.services}

    @cached_property
    def _sites(self) -> Mapping[str, tuple[Hub, Site]]:
        return {
            _folded(word): (hub, site) for hub in self.hubs for site in hub.sites for word in (site.name, *site.also)
        }

    def hub(self, hub_id: str | None) -> Hub | None:
        """The hub of this id."""
        return self._hubs.get(hub_id) if hub_id else None

    def authority(self, authority_id: str | None) -> Authority | None:
        """The authority outside the county of this id."""
        return self._authorities.get(authority_id) if authority_id else None

    def contact(self, hub_id: str | None) -> Hub | Authority | None:
        """The hub or the authority outside of this id: both have a name and a public contact."""
        return self.hub(hub_id) or self.authority(hub_id)

    def hub_for_district(self, code: str, on: date) -> Hub | None:
        """The hub that serves a district on a day, whether or not it is full."""
        return next((hub for district, hub in self._serving.get(code, ()) if district.holds(on)), None)

    def authority_for_district(self, code: str) -> Authority | None:
        """The authority outside the county for a district."""
        return self._by_code.get(code)

    def knows_district(self, code: str) -> bool:
        """True for a district that a hub serves or served, or that an authority outside has."""
        return code in self._serving or code in self._by_code

    def district_name(self, code: str) -> str | None:
        """Name of a district of the county, or of the authority outside that it is."""
        county = next((district.name for district in self.county if district.code == code), None)
        outside = self._by_code.get(code)
        return county or (outside.name if outside else None)

    @cached_property
    def districts(self) -> tuple[str, ...]:
        """Every district code of the county and of the authorities outside."""
        return tuple(sorted({*self._serving, *self._by_code}))

    def is_full(self, hub_id: str, on: date) -> bool:
        """True on the days for which the hub declared itself full."""
        return any(full.hub == hub_id and full.holds(on) for full in self.full)

    def overflow(self, hub_id: str, on: date) -> Hub | None:
        """The hub that takes the new cases of a full one: the first of the overflow chain that is not full, or none."""
        passed, hub = {hub_id}, self._overflow_of(hub_id)
        while hub is not None and hub.id not in passed:
            if not self.is_full(hub.id, on):
                return hub
            passed.add(hub.id)
            hub = self._overflow_of(hub.id)
        return None

    def _overflow_of(self, hub_id: str) -> Hub | None:
        hub = self.hub(hub_id)
        return self.hub(hub.overflow) if hub else None

    @cached_property
    def triage(self) -> Hub:
        """Central triage."""
        return next(hub for hub in self.hubs if hub.kind == "triage")

    @cached_property
    def _hospital(self) -> Hub:
        return next(hub for hub in self.hubs if hub.kind == "hospital" and not hub.restricted)

    def hospital(self, site: str | None, ward: str | None, trusts: Iterable[str | None]) -> tuple[Hub, str | None]:
        """(hospital team, worklist) for a stay. A restricted unit goes first, so that a doubtful stay stays within it."""
        found = [self._sites[word] for word in map(_folded, (site, ward)) if word in self._sites]
        restricted = [(hub, place.name) for hub, place in found if hub.restricted]
        if restricted or found:
            return restricted[0] if restricted else (found[0][0], found[0][1].name)
        told = {trust for trust in trusts if trust}
        own = [hub for hub in self.hubs if told.intersection(hub.trusts)]
        return (own[0] if own else self._hospital), None

    def desk(self, partner: str, kind: str) -> str | None:
        """The triage desk for what a partner sent, or for a kind of referrer; the first where none says so."""
        desks = self.triage.desks
        by_partner = (desk for desk in desks if partner in desk.partners)
        by_kind = (desk for desk in desks if kind in desk.kinds)
        desk = next(by_partner, None) or next(by_kind, None) or next(iter(desks), None)
        return desk.name if desk else None

    def offer(self, service: Service) -> Offer:
        """Who delivers a service, and its words."""
        return self._offers[service]

    def is_onward(self, service: Service) -> bool:
        """True for a service that is merely referred onward."""
        return self._offers[service].delivered == "onward"


def load(folder: Path) -> Directory:
    """Read the directory; raises DirectoryFaulty with every fault that can be told."""
    read = _read(folder)
    if isinstance(read, Directory) and not (found := faults(read)):
        return read
    raise DirectoryFaulty(found if isinstance(read, Directory) else read)


def check(folder: Path) -> list[Fault]:
    """Every fault of the directory in a folder; none where it may be used."""
    read = _read(folder)
    return faults(read) if isinstance(read, Directory) else read


def _read(folder: Path) -> Directory | list[Fault]:
    found: list[Fault] = []
    data: dict[str, Any] = {}
    digest = hashlib.sha256()
    for file in FILES:
        try:
            content = (folder / file).read_bytes()
            digest.update(file.encode() + b"\0" + content)
            data |= yaml.safe_load(content) or {}
        except OSError as error:
            found.append(Fault(file, "file", error.strerror or "cannot be read"))
        except yaml.YAMLError as error:
            found.append(Fault(file, _line(error), "is not valid YAML"))
    return found or _validated({"version": digest.hexdigest()[:12], **data})


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}" if mark else "file"


def _validated(data: dict[str, Any]) -> Directory | list[Fault]:
    try:
        return Directory.model_validate(data)
    except ValidationError as error:
        return [Fault(_file(e["loc"]), _where(e["loc"], data), e["msg"]) for e in error.errors(include_input=False)]


def _file(loc: tuple[int | str, ...]) -> str:
    part = str(loc[0]) if loc else ""
    return {"full": "capacity.yaml"}.get(part, f"{part}.yaml")


def _where(loc: tuple[int | str, ...], data: dict[str, Any]) -> str:
    """'hub blaby, contact.phone' instead of 'hubs.0.contact.phone'."""
    if len(loc) > 1 and isinstance(loc[1], int) and isinstance(data.get(str(loc[0])), list):
        entry = data[str(loc[0])][loc[1]]
        name = entry.get("id") or entry.get("service") or entry.get("hub") if isinstance(entry, dict) else None
        return f"{name or f'entry {loc[1] + 1}'}: {'.'.join(map(str, loc[2:])) or 'entry'}"
    return ".".join(map(str, loc)) or "file"


def faults(directory: Directory) -> list[Fault]:
    """What contradicts itself or is missing."""
    return [
        *_naming_faults(directory),
        *_district_faults(directory),
        *_served(directory),
        *_overflow_faults(directory),
        *_missing(directory),
    ]


def _naming_faults(directory: Directory) -> Iterator[Fault]:
    ids = Counter([hub.id for hub in directory.hubs] + [authority.id for authority in directory.authorities])
    yield from (Fault("hubs.yaml", name, "is named twice") for name, times in ids.items() if times > 1)
    codes = Counter(authority.code for authority in directory.authorities)
    yield from (Fault("authorities.yaml", code, "has two authorities") for code, times in codes.items() if times > 1)
    words = Counter(_folded(word) for hub in directory.hubs for s in hub.sites for word in {s.name, *s.also})
    yield from (Fault("hubs.yaml", word, "names two sites") for word, times in words.items() if times > 1)
    for full in directory.full:
        if directory.hub(full.hub) is None:
            yield Fault("capacity.yaml", full.hub, "is no hub")


def _district_faults(directory: Directory) -> Iterator[Fault]:
    entries = [(hub.id, district) for hub in directory.hubs for district in hub.districts]
    for place, (hub, district) in enumerate(entries):
        if district.to is not None and district.to < district.from_:
            yield Fault("hubs.yaml", f"{hub}: {district.code}", "ends before it begins")
        if directory.authority_for_district(district.code):
            yield Fault("hubs.yaml", f"{hub}: {district.code}", "is also an authority outside the county")
        for other, later in entries[place + 1 :]:
            if later.code == district.code and _overlap(district, later):
                yield Fault("hubs.yaml", f"{hub}, {other}: {district.code}", "is served twice on the same day")


def _served(directory: Directory) -> Iterator[Fault]:
    county = {district.code for district in directory.county}
    for hub in directory.hubs:
        for district in hub.districts:
            if district.code not in county:
                yield Fault("hubs.yaml", f"{hub.id}: {district.code}", "is no district of the county")
    lasting = {district.code for hub in directory.hubs for district in hub.districts if district.to is None}
    for code in county - lasting:
        yield Fault("hubs.yaml", f"county: {code}", "no hub serves it until further notice")


def _overlap(one: Dated, other: Dated) -> bool:
    return one.from_ <= (other.to or date.max) and other.from_ <= (one.to or date.max)


def _overflow_faults(directory: Directory) -> Iterator[Fault]:
    for hub in directory.hubs:
        if hub.overflow is not None and directory.hub(hub.overflow) is None:
            yield Fault("hubs.yaml", hub.id, f"overflow names {hub.overflow}, which is no hub")
        if hub.overflow is not None and _returns_to(directory, hub.id):
            yield Fault("hubs.yaml", hub.id, "overflow leads back to itself")


def _returns_to(directory: Directory, start: str) -> bool:
    passed: set[str] = set()
    hub = directory.hub(start)
    while hub is not None and hub.overflow is not None and hub.id not in passed:
        passed.add(hub.id)
        hub = directory.hub(hub.overflow)
        if hub is not None and hub.id == start:
            return True
    return False


def _missing(directory: Directory) -> Iterator[Fault]:
    offered = Counter(offer.service for offer in directory.services)
    yield from (Fault("services.yaml", s, "is missing") for s in Service if s not in offered)
    yield from (Fault("services.yaml", s, "is there twice") for s, times in offered.items() if times > 1)
    kinds = Counter(hub.kind for hub in directory.hubs)
    if kinds["triage"] != 1:
        yield Fault("hubs.yaml", "triage", "exactly one hub of this kind is needed")
    if not any(hub.kind == "hospital" and not hub.restricted for hub in directory.hubs):
        yield Fault("hubs.yaml", "hospital", "a hub of this kind that is not restricted is needed")
    for hub in directory.hubs:
        if hub.kind == "locality" and not hub.districts:
            yield Fault("hubs.yaml", hub.id, "serves no district")


def _folded(word: str | None) -> str:
    return "".join(letter for letter in (word or "").casefold() if letter.isalnum())
