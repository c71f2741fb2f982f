"""What the four files of the directory say: hubs, districts, authorities outside, services, capacity; and lookups, by day."""

from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo

from schemas.model import HubId, OdsCode, OnsCode, PartnerId, ShortText, StrictInput
from schemas.referral import ReferrerKind, ServiceCode
from services.reference.yaml_files import ConfigFile

Day = Annotated[date, Field(strict=False)]
DisplayName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


Catalogue = frozenset[ServiceCode]
"""The codes of services.yaml."""


def _offered(code: ServiceCode, info: ValidationInfo) -> ServiceCode:
    """Refuse a code that is not in the catalogue, if the reader gave one as the context of the validation."""
    if info.context is not None and code not in info.context:
        raise ValueError(f"services.yaml has no service {code}")
    return code


OfferedService = Annotated[ServiceCode, AfterValidator(_offered)]
"""A service in a reviewed file; load the file with the catalogue as context."""


class UnknownService(LookupError):
    """A code that is not in the service catalogue."""


class PublicContact(StrictInput):
    """How the public reaches somebody."""

    phone: ShortText = Field(description="Telephone number")
    email: ShortText = Field(description="E-mail address")


class ValidityPeriod(StrictInput):
    """Something that holds from one day to another, both included."""

    from_: Day = Field(alias="from", description="First day")
    to: Day | None = Field(None, description="Last day; none: until further notice")

    def in_force(self, on: date) -> bool:
        """True on the first day, the last day, and between."""
        return self.from_ <= on and (self.to is None or on <= self.to)


class District(ValidityPeriod):
    """A district that a hub serves."""

    code: OnsCode = Field(description="ONS code of the district")


class CountyDistrict(StrictInput):
    """A district of the county."""

    code: OnsCode = Field(description="ONS code")
    name: ShortText = Field(description="Name")


class Site(StrictInput):
    """A hospital site: a worklist of a hospital housing team."""

    name: DisplayName = Field(description="Its name: the name of the worklist")
    aliases: tuple[DisplayName, ...] = Field((), description="Other names and codes that senders use for it")

    @cached_property
    def names_by_key(self) -> Mapping[str, str]:
        """Its names and codes as they are written, by how they are compared."""
        return {_normalise(word): word for word in (self.name, *self.aliases)}


class Desk(StrictInput):
    """A triage desk: a worklist of central triage."""

    name: DisplayName = Field(description="Its name: the name of the worklist")
    partners: tuple[PartnerId, ...] = Field((), description="Senders whose referrals it sees first")
    kinds: tuple[ReferrerKind, ...] = Field((), description="Kinds of referrer whose referrals it sees otherwise")


class Hub(StrictInput):
    """A locality hub, central triage, or a hospital housing team: whoever has topics of its own and can hold a case."""

    id: HubId = Field(description="Identifier: names its topics")
    kind: Literal["locality", "triage", "hospital"] = Field(description="What it is")
    name: ShortText = Field(description="Name as the public knows it")
    contact: PublicContact = Field(description="Public contact")
    districts: tuple[District, ...] = Field((), description="Districts that it serves, dated")
    overflow: HubId | None = Field(None, description="Which hub takes its new cases while it is full")
    restricted: bool = Field(False, description="Nobody outside may learn that a person is or was with it")
    sites: tuple[Site, ...] = Field((), description="Hospital sites")
    trusts: tuple[OdsCode, ...] = Field((), description="Trusts whose stays are its own where the site is not known")
    desks: tuple[Desk, ...] = Field((), description="Triage desks; the first is the default")


class Authority(StrictInput):
    """A housing authority outside the county: it has no topics; people are sent there."""

    id: HubId = Field(description="Identifier")
    code: OnsCode = Field(description="ONS code")
    name: ShortText = Field(description="Name")
    contact: PublicContact = Field(description="Public contact")
    refer_to: ShortText = Field(description="Whom to ask for there")


class Offer(StrictInput):
    """A service, who delivers it, and its words."""

    service: ServiceCode = Field(description="The service")
    delivered: Literal["core", "commissioned", "onward", "hospital"] = Field(description="By whom")
    label: DisplayName = Field(description="In plain words")


class Full(ValidityPeriod):
    """A hub that declared itself full."""

    hub: HubId = Field(description="Which")


class HubsFile(StrictInput):
    """hubs.yaml."""

    county: tuple[CountyDistrict, ...]
    hubs: tuple[Hub, ...]


class AuthoritiesFile(StrictInput):
    """authorities.yaml."""

    authorities: tuple[Authority, ...]


class ServicesFile(StrictInput):
    """services.yaml."""

    services: tuple[Offer, ...]


class CapacityFile(StrictInput):
    """capacity.yaml."""

    full: tuple[Full, ...] = ()


class Files(NamedTuple):
    """The four files, each right by itself."""

    hubs: ConfigFile[HubsFile]
    authorities: ConfigFile[AuthoritiesFile]
    services: ConfigFile[ServicesFile]
    capacity: ConfigFile[CapacityFile]


class Directory(StrictInput):
    """Everything of it, at one version. Lookups take the day that they are for."""

    version: ShortText = Field(description="First 12 digits of the SHA-256 of the files")
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
    def _offers(self) -> Mapping[ServiceCode, Offer]:
        return {offer.service: offer for offer in self.services}

    @cached_property
    def _sites(self) -> Mapping[str, tuple[Hub, Site]]:
        return {word: (hub, site) for hub in self.hubs for site in hub.sites for word in site.names_by_key}

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
        return next((hub for district, hub in self._serving.get(code, ()) if district.in_force(on)), None)

    def authority_for_district(self, code: str) -> Authority | None:
        """The authority outside the county for a district."""
        return self._by_code.get(code)

    def has_district(self, code: str) -> bool:
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
        return any(full.hub == hub_id and full.in_force(on) for full in self.full)

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

    def site(self, word: str) -> tuple[Hub, Site] | None:
        """The site of this name or code, and whose it is."""
        return self._sites.get(_normalise(word))

    def hospital(self, site: str | None, ward: str | None, trusts: Iterable[str | None]) -> tuple[Hub, str | None]:
        """(hospital team, worklist) for a stay. A restricted unit goes first, and so does whatever its trust
        tells, on whatever site: a doubtful stay stays within it."""
        sites = [self._sites[word] for word in map(_normalise, (site, ward)) if word in self._sites]
        trust_codes = {trust for trust in trusts if trust}
        own = next((hub for hub in self.hubs if trust_codes.intersection(hub.trusts)), None)
        restricted = next(((hub, place.name) for hub, place in sites if hub.restricted), None)
        if restricted or (own and own.restricted):
            return restricted or (own or self._hospital, None)
        return (sites[0][0], sites[0][1].name) if sites else (own or self._hospital, None)

    def desk(self, partner: str, kind: str) -> str | None:
        """The triage desk for what a partner sent, or for a kind of referrer; the first where none says so."""
        desks = self.triage.desks
        by_partner = (desk for desk in desks if partner in desk.partners)
        by_kind = (desk for desk in desks if kind in desk.kinds)
        desk = next(by_partner, None) or next(by_kind, None) or next(iter(desks), None)
        return desk.name if desk else None

    def offers(self, service: ServiceCode) -> bool:
        """Return whether the service is in the catalogue."""
        return service in self._offers

    def offer(self, service: ServiceCode) -> Offer:
        """Return who delivers a service, and its words; raises UnknownService."""
        if service not in self._offers:
            raise UnknownService
        return self._offers[service]

    def is_onward(self, service: ServiceCode) -> bool:
        """Return whether the service is merely referred onward; one that has left the catalogue is not."""
        return self.offers(service) and self.offer(service).delivered == "onward"


def _normalise(word: str | None) -> str:
    return "".join(letter for letter in (word or "").casefold() if letter.isalnum())
