"""Models of the directory: hubs and districts, authorities outside, services, capacity; with lookups by date."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator

from schemas.model import HubId, OdsCode, OnsCode, PartnerId, ShortText, StrictInput
from schemas.referral import ReferrerKind, ServiceCode
from services.reference.yaml_files import ConfigFile

Day = Annotated[date, Field(strict=False)]
DisplayName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


Catalogue = frozenset[ServiceCode]
"""The codes of services.yaml."""


def _offered(code: ServiceCode, info: ValidationInfo) -> ServiceCode:
    """Reject a code that is not in the catalogue, if the validation context has one."""
    if info.context is not None and code not in info.context:
        raise ValueError(f"services.yaml has no service {code}")
    return code


OfferedService = Annotated[ServiceCode, AfterValidator(_offered)]
"""A service code in a reviewed file. Load the file with the catalogue as context to check it."""


class UnknownService(LookupError):
    """A code that is not in the service catalogue."""


class PublicContact(StrictInput):
    """Public telephone number and e-mail address of a team."""

    phone: ShortText = Field(description="Telephone number")
    email: ShortText = Field(description="E-mail address")


class ValidityPeriod(StrictInput):
    """A period from one day to another, both inclusive. It does not end before it begins."""

    from_: Day = Field(alias="from", description="First day")
    to: Day | None = Field(None, description="Last day; none: until further notice")

    @field_validator("to")
    @classmethod
    def _is_not_before_the_first_day(cls, last: date | None, info: ValidationInfo) -> date | None:
        first = info.data.get("from_")
        if last is not None and first is not None and last < first:
            raise ValueError(f"{last} is before the first day, {first}")
        return last

    def in_force(self, on: date) -> bool:
        """Return whether the day is in the period, including its first and last day."""
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
        """Its names and codes as written, by their normalised form."""
        return {fold(word): word for word in (self.name, *self.aliases)}


class CommunityHospital(StrictInput):
    """A site of a trust with a restricted unit, and its wards that are not part of that unit."""

    site: DisplayName = Field(description="A name or code of the site, as in `sites` of a team that is not restricted")
    wards: tuple[DisplayName, ...] = Field(min_length=1, description="Names and codes of its wards that were reviewed")


class Desk(StrictInput):
    """A triage desk: a worklist of central triage."""

    name: DisplayName = Field(description="Its name: the name of the worklist")
    partners: tuple[PartnerId, ...] = Field((), description="Senders whose referrals it sees first")
    kinds: tuple[ReferrerKind, ...] = Field(
        (), description="Kinds of referrer whose referrals it sees if no desk names the sender"
    )


class Hub(StrictInput):
    """A locality hub, central triage, or a hospital housing team: it has topics and can hold a case."""

    id: HubId = Field(description="Identifier; part of the names of its topics")
    kind: Literal["locality", "triage", "hospital"] = Field(description="Kind of hub")
    name: ShortText = Field(description="Public name")
    contact: PublicContact = Field(description="Public contact")
    districts: tuple[District, ...] = Field((), description="Districts that it serves, each for a period")
    overflow: HubId | None = Field(None, description="Which hub takes its new cases while it is full")
    restricted: bool = Field(False, description="True if no one outside may learn that a person is or was with it")
    sites: tuple[Site, ...] = Field((), description="Hospital sites")
    trusts: tuple[OdsCode, ...] = Field(
        (),
        description="Trusts whose stays it takes: all that are not listed if it is restricted, else of unknown sites",
    )
    community_hospitals: tuple[CommunityHospital, ...] = Field(
        (), description="Restricted only: sites and wards of its trusts whose stays the site's team takes"
    )
    desks: tuple[Desk, ...] = Field((), description="Triage desks; the first is the default")


class Authority(StrictInput):
    """A housing authority outside the county. It has no topics; people are referred there."""

    id: HubId = Field(description="Identifier")
    code: OnsCode = Field(description="ONS code")
    name: ShortText = Field(description="Name")
    contact: PublicContact = Field(description="Public contact")
    refer_to: ShortText = Field(description="Team or person to ask for there")


class Offer(StrictInput):
    """A service of the catalogue, who delivers it, and its label."""

    service: ServiceCode = Field(description="The service")
    delivered: Literal["core", "commissioned", "onward", "hospital"] = Field(description="Who delivers it")
    label: DisplayName = Field(description="Name of the service in plain English")


class Full(ValidityPeriod):
    """A period for which a hub declared itself full."""

    hub: HubId = Field(description="The hub")


class HubsFile(StrictInput):
    """The file hubs.yaml."""

    county: tuple[CountyDistrict, ...]
    hubs: tuple[Hub, ...]


class AuthoritiesFile(StrictInput):
    """The file authorities.yaml."""

    authorities: tuple[Authority, ...]


class ServicesFile(StrictInput):
    """The file services.yaml."""

    services: tuple[Offer, ...]


class CapacityFile(StrictInput):
    """The file capacity.yaml."""

    full: tuple[Full, ...] = ()


class Files(NamedTuple):
    """The four files, each valid; not yet checked against each other."""

    hubs: ConfigFile[HubsFile]
    authorities: ConfigFile[AuthoritiesFile]
    services: ConfigFile[ServicesFile]
    capacity: ConfigFile[CapacityFile]


class Directory(StrictInput):
    """The whole directory at one version. Lookups that depend on dates take the day."""

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
        """Return the hub with this id, or None."""
        return self._hubs.get(hub_id) if hub_id else None

    def authority(self, authority_id: str | None) -> Authority | None:
        """Return the authority outside the county with this id, or None."""
        return self._authorities.get(authority_id) if authority_id else None

    def contact(self, hub_id: str | None) -> Hub | Authority | None:
        """Return the hub or authority outside with this id, or None; both have a name and a public contact."""
        return self.hub(hub_id) or self.authority(hub_id)

    def hub_for_district(self, code: str, on: date) -> Hub | None:
        """Return the hub that serves a district on a day, even if it is full, or None."""
        return next((hub for district, hub in self._serving.get(code, ()) if district.in_force(on)), None)

    def authority_for_district(self, code: str) -> Authority | None:
        """Return the authority outside the county for a district, or None."""
        return self._by_code.get(code)

    def has_district(self, code: str) -> bool:
        """Return whether an authority outside has this district, or a hub has it at any date."""
        return code in self._serving or code in self._by_code

    def district_name(self, code: str) -> str | None:
        """Return the name of a district of the county, or of the authority outside for it, or None."""
        county = next((district.name for district in self.county if district.code == code), None)
        outside = self._by_code.get(code)
        return county or (outside.name if outside else None)

    @cached_property
    def districts(self) -> tuple[str, ...]:
        """The district codes that hubs serve or authorities outside have, sorted."""
        return tuple(sorted({*self._serving, *self._by_code}))

    def is_full(self, hub_id: str, on: date) -> bool:
        """Return whether the hub declared itself full for this day."""
        return any(full.hub == hub_id and full.in_force(on) for full in self.full)

    def overflow(self, hub_id: str, on: date) -> Hub | None:
        """Return the first hub of the overflow chain of `hub_id` that is not full, or None."""
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
        """The hub that is central triage."""
        return next(hub for hub in self.hubs if hub.kind == "triage")

    @cached_property
    def _hospital(self) -> Hub:
        return next(hub for hub in self.hubs if hub.kind == "hospital" and not hub.restricted)

    def site(self, word: str) -> tuple[Hub, Site] | None:
        """Return the site with this name or code, and its hospital team, or None."""
        return self._sites.get(fold(word))

    def hospital(self, site: str | None, ward: str | None, trusts: Iterable[str | None]) -> tuple[Hub, str | None]:
        """Return the hospital team and the worklist for a stay that organisations with these ODS codes report.

        A restricted unit takes precedence: it takes every stay whose site or ward has a name of the unit, and every stay that its trust
        reports without a site and a ward of the trust's list. The code of a site begins with that of its trust.
        """
        sites = [self._sites[word] for word in map(fold, (site, ward)) if word in self._sites]
        codes = [code for code in trusts if code]
        own = self._teams_of(codes)
        named = next(((hub, place.name) for hub, place in sites if hub.restricted), None)
        unlisted = next(((hub, None) for hub in own if hub.restricted and not self._is_listed(hub, site, ward)), None)
        if restricted := named or unlisted:
            return restricted
        return (sites[0][0], sites[0][1].name) if sites else (next(iter(own), self._hospital), None)

    def restricted_team(self, trusts: Iterable[str | None]) -> Hub | None:
        """Return the restricted hospital team of the trusts with these ODS codes, or None."""
        return next((hub for hub in self._teams_of([code for code in trusts if code]) if hub.restricted), None)

    def _teams_of(self, codes: Sequence[str]) -> list[Hub]:
        return [hub for hub in self.hubs if any(code.startswith(hub.trusts) for code in codes)]

    def _is_listed(self, hub: Hub, site: str | None, ward: str | None) -> bool:
        """Return whether the list of a restricted hub has this site with this ward."""
        found = self.site(site) if site else None
        return found is not None and (found[1].name, fold(ward)) in self._listed[hub.id]

    @cached_property
    def _listed(self) -> Mapping[str, frozenset[tuple[str, str]]]:
        """Site and ward of each entry of `community_hospitals`, by hub."""
        sites = {hub.id: [(self.site(one.site), one.wards) for one in hub.community_hospitals] for hub in self.hubs}
        return {
            hub: frozenset((found[1].name, fold(ward)) for found, wards in listed if found for ward in wards)
            for hub, listed in sites.items()
        }

    def desk(self, partner: str, kind: str) -> str | None:
        """Return the triage desk for a sender, else for a kind of referrer, else the first desk; None if there are none."""
        desks = self.triage.desks
        by_partner = (desk for desk in desks if partner in desk.partners)
        by_kind = (desk for desk in desks if kind in desk.kinds)
        desk = next(by_partner, None) or next(by_kind, None) or next(iter(desks), None)
        return desk.name if desk else None

    def offers(self, service: ServiceCode) -> bool:
        """Return whether the service is in the catalogue."""
        return service in self._offers

    def offer(self, service: ServiceCode) -> Offer:
        """Return who delivers a service, and its label. Raise UnknownService."""
        if service not in self._offers:
            raise UnknownService
        return self._offers[service]

    def is_onward(self, service: ServiceCode) -> bool:
        """Return whether the service is delivered by others; False if it is not in the catalogue."""
        return self.offers(service) and self.offer(service).delivered == "onward"


def fold(word: str | None) -> str:
    """Return the letters and digits of a name or code without case, by which sites and wards are compared."""
    return "".join(letter for letter in (word or "").casefold() if letter.isalnum())
