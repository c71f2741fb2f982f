"""Partners: who may send what, on whose behalf, and where feedback goes. The one module that authenticates.

`infra/reference_data/partners.yaml` is reviewed data: organisations, their formats, and on whose behalf each may send.
`deployment.yaml` belongs to one installation: hashes of the partners' tokens and certificates, a partner's dedicated MLLP port, and
the addresses for feedback. Neither file holds a secret, and no message can change either.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, Field, IPvAnyNetwork, StringConstraints, TypeAdapter, model_validator

from schemas.model import HubId, OdsCode, OnsCode, PartnerId, ShortText, StrictInput
from schemas.referral import Organisation, ReferrerKind, Sender
from services.reference import yaml_files
from services.reference.yaml_files import ConfigFile, ConfigIssue

Format = Annotated[str, StringConstraints(pattern=r"^(bars-fhir|hl7v2|council-csv|form:[a-z][a-z0-9-]{1,40})$")]
"""A format that a partner may send: BaRS messages, HL7 v2, a council's CSV rows, or one named form."""

TokenHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a bearer token, in hexadecimal."""

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a client certificate in DER, in hexadecimal.

Compute it by `openssl x509 -in certificate.pem -outform DER | sha256sum`.
"""

THIS_MACHINE = TypeAdapter(tuple[IPvAnyNetwork, ...]).validate_python(("127.0.0.0/8", "::1/128"))


class FeedbackSettings(StrictInput):
    """How feedback reaches a partner. Addresses are in deployment.yaml, never in a message."""

    channel: Literal["fhir", "mesh", "mailbox"] = Field(
        "mailbox", description="FHIR endpoint of its system, MESH, or a mailbox from which it fetches feedback"
    )
    mesh_mailbox: ShortText | None = Field(None, description="MESH mailbox of the organisation, if the channel is mesh")

    @model_validator(mode="after")
    def _mesh_needs_a_mailbox(self) -> "FeedbackSettings":
        if (self.channel == "mesh") != (self.mesh_mailbox is not None):
            raise ValueError("mesh_mailbox is required with channel mesh and not allowed with another channel")
        return self


class Hl7v2(StrictInput):
    """How HL7 v2 messages of a partner are acknowledged, if it differs from the standard, and whether it sends ADT."""

    acknowledgement: Literal["as-asked", "original", "enhanced"] = Field(
        "as-asked",
        description="original: AA, AE or AR; enhanced: CA, CE or CR first; as-asked: as MSH-15 and MSH-16 request",
    )
    rri: bool = Field(
        False, description="True if an accepted referral is answered with RRI, with our reference in RF1-11"
    )
    warnings: bool = Field(
        False,
        description="True if an accepted message is answered AA with a warning (ERR-4 W, from version 2.5 on) for each part that "
        "was not understood or not applied",
    )
    adt: bool = Field(False, description="True if it sends ADT too")
    adt_messages_per_second: int | None = Field(
        None, ge=1, description="Rate limit of its ADT, apart from its other messages, if it differs from theirs"
    )
    idle_seconds: int | None = Field(
        None, ge=10, le=86_400, description="Time that its MLLP connections may be idle, if not 600 seconds"
    )

    @model_validator(mode="after")
    def _rate_needs_adt(self) -> "Hl7v2":
        if self.adt_messages_per_second is not None and not self.adt:
            raise ValueError("adt_messages_per_second is not allowed without adt: true")
        return self


class Partner(StrictInput):
    """An organisation whose system may call us."""

    id: PartnerId = Field(description="Its identifier in addresses, logs and tables")
    name: ShortText = Field(description="Its name for people")
    kind: ReferrerKind | Literal["hub"] = Field(
        description="What it is as a referrer; a hub reads attachments, and sends what its own staff refer"
    )
    ods: OdsCode | None = Field(None, description="Its ODS code, if it has one")
    hub: HubId | None = Field(None, description="Which hub it is, if kind is hub")
    council: OnsCode | None = Field(None, description="Which district it is, if kind is council")
    formats: tuple[Format, ...] = Field((), description="What it may send")
    acts_for: tuple[OdsCode, ...] | Literal["any"] = Field(
        (), description="Other organisations that may be the referrer of its referrals"
    )
    vouches: Literal["sender", "nobody"] = Field(
        "sender", description="Who vouches for the person's identity: nobody for a public form"
    )
    conformance: Literal["full", "subset"] = Field(
        "full", description="full: the whole FHIR message is validated; subset: only the parts that are used"
    )
    messages_per_second: int | None = Field(
        None,
        ge=1,
        description="Its rate limit, if it differs from the installation's LIGHTBULB_MESSAGES_PER_SECOND",
    )
    hl7v2: Hl7v2 = Field(Hl7v2(), description="How its HL7 v2 messages are acknowledged, and its ADT")
    feedback: FeedbackSettings = Field(FeedbackSettings(), description="How feedback reaches it")

    @model_validator(mode="after")
    def _hub_is_named(self) -> "Partner":
        if (self.kind == "hub") != (self.hub is not None):
            raise ValueError("hub is required with kind hub and not allowed with another kind")
        return self

    @model_validator(mode="after")
    def _adt_needs_hl7v2(self) -> "Partner":
        if self.hl7v2.adt and not self.may_send("hl7v2"):
            raise ValueError("hl7v2.adt is not allowed without the format hl7v2")
        return self

    @cached_property
    def organisation(self) -> Organisation:
        """The organisation that its credential identifies."""
        return Organisation(ods=self.ods, name=self.name)

    @cached_property
    def sender(self) -> Sender:
        """The sender of everything that it delivers, for `sent_by`."""
        return Sender(partner=self.id, organisation=self.organisation)

    def may_send(self, format: str) -> bool:  # noqa: A002 - named as the field
        """Return whether it may send this format."""
        return format in self.formats

    def may_act_for(self, ods: str | None) -> bool:
        """Return whether it may send for this organisation: itself, one in `acts_for`, or None."""
        return ods is None or self.acts_for == "any" or ods == self.ods or ods in self.acts_for


class PartnerCredentials(StrictInput):
    """A partner's part of one installation: how its systems authenticate, and where its feedback goes."""

    token_sha256: tuple[TokenHash, ...] = Field((), description="SHA-256 of each token that is valid now")
    certificate_sha256: tuple[Fingerprint, ...] = Field(
        (), description="SHA-256 of each client certificate (DER) that is valid now, for MLLP over TLS"
    )
    mllp_port: int | None = Field(
        None, ge=1, le=65535, description="Port for MLLP without TLS that only this partner uses"
    )
    adt_mllp_port: int | None = Field(None, ge=1, le=65535, description="The same, for its ADT only")
    adt_certificate_sha256: tuple[Fingerprint, ...] = Field(
        (), description="SHA-256 of each client certificate (DER) that is valid now for its ADT only"
    )
    mllp_from: tuple[IPvAnyNetwork, ...] = Field(
        THIS_MACHINE,
        min_length=1,
        description="Networks from which it may connect to its ports; by default this machine only",
    )
    feedback_url: AnyHttpUrl | None = Field(None, description="FHIR endpoint of its system for feedback")
    feedback_token_file: Path | None = Field(
        None, description="File with the token that we send there; only its owner may read it"
    )

    @property
    def mllp_ports(self) -> Mapping[str, int]:
        """Its ports by the name of their setting."""
        ports = {"mllp_port": self.mllp_port, "adt_mllp_port": self.adt_mllp_port}
        return {name: port for name, port in ports.items() if port is not None}

    @property
    def credentials(self) -> Mapping[str, tuple[str, ...]]:
        """The hashes of its tokens and certificates by the name of their setting."""
        return {name: getattr(self, name) for name in ("token_sha256", "certificate_sha256", "adt_certificate_sha256")}


class Deployment(StrictInput):
    """deployment.yaml: the settings of one installation for its partners."""

    partners: dict[PartnerId, PartnerCredentials] = Field({}, description="By partner")


class PartnersFile(StrictInput):
    """partners.yaml: all partners."""

    partners: tuple[Partner, ...] = Field(description="Organisations whose systems may call us")


@dataclass(frozen=True)
class MllpFeed:
    """A sender over MLLP: a partner's systems that send everything, or those that send ADT only."""

    partner: Partner
    adt_only: bool = False


@dataclass(frozen=True)
class MllpListener:
    """A partner's dedicated port: a connection to it from one of `networks` is authenticated as this feed."""

    feed: MllpFeed
    port: int
    networks: tuple[IPvAnyNetwork, ...]

    def accepts(self, address: str) -> bool:
        """Return whether the address is in one of its networks."""
        peer = ip_address(address.partition("%")[0])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.networks)


class Partners:
    """All partners, and how each is authenticated."""

    def __init__(self, partners: Iterable[Partner], deployment: Deployment) -> None:
        self._by_id: Mapping[str, Partner] = MappingProxyType({partner.id: partner for partner in partners})
        self._by_ods = {partner.ods: partner for partner in self._by_id.values() if partner.ods and not partner.hub}
        self._access = deployment.partners
        self._by_hash = {
            token_hash: self._by_id[name] for name, access in self._access.items() for token_hash in access.token_sha256
        }

        self._by_certificate = {
            digest: MllpFeed(self._by_id[name], adt_only=digest in access.adt_certificate_sha256)
            for name, access in self._access.items()
            for digest in (*access.certificate_sha256, *access.adt_certificate_sha256)
        }

    def __iter__(self) -> Any:
        return iter(self._by_id.values())

    def by_id(self, partner_id: str) -> Partner | None:
        """Return the partner with this id, or None."""
        return self._by_id.get(partner_id)

    def by_ods(self, ods: str | None) -> Partner | None:
        """Return the partner with this ODS code, or None; hubs are left out."""
        return self._by_ods.get(ods) if ods else None

    def access(self, partner_id: str) -> PartnerCredentials:
        """Return its credentials and addresses; they are empty if deployment.yaml does not name it."""
        return self._access.get(partner_id, PartnerCredentials())

    def authenticate(self, authorization_header: str | None) -> Partner | None:
        """Return the partner with this `Authorization` header, or None. Compare token hashes in constant time.

        Signed JWTs, if they come, belong here.
        """
        scheme, _, token = (authorization_header or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        shown = hash_of(token.strip())
        matching_hash = next(
            (stored_hash for stored_hash in self._by_hash if hmac.compare_digest(stored_hash, shown)), None
        )
        return self._by_hash[matching_hash] if matching_hash else None

    def by_certificate(self, der: bytes | None) -> MllpFeed | None:
        """Return the feed with this client certificate (DER), or None. TLS has verified the private key."""
        return self._by_certificate.get(hashlib.sha256(der).hexdigest()) if der else None

    def feedback_token_files(self) -> Iterator[tuple[str, Path]]:
        """Yield the id and the file of each partner that feedback is sent to with a token."""
        for name, access in self._access.items():
            if access.feedback_token_file is not None:
                yield name, access.feedback_token_file

    def listeners(self) -> list[MllpListener]:
        """Return the dedicated MLLP ports of partners."""
        return [
            MllpListener(MllpFeed(self._by_id[name], adt_only=kind == "adt_mllp_port"), port, access.mllp_from)
            for name, access in self._access.items()
            for kind, port in access.mllp_ports.items()
        ]


def load(directory: Path, deployment: Path | None) -> Partners:
    """Load both files. Raise ConfigError with all issues found in them."""
    partners_file = yaml_files.load(directory / "partners.yaml", PartnersFile)
    deployment_file = yaml_files.load(deployment, Deployment) if deployment else None
    if issues := [
        *_contradictions(partners_file),
        *(_unknown_partners(deployment_file, partners_file.value) if deployment_file else ()),
    ]:
        raise yaml_files.ConfigError(issues)
    return Partners(partners_file.value.partners, deployment_file.value if deployment_file else Deployment())


@dataclass(frozen=True, slots=True)
class UnaddressedChannel:
    """A partner's channel that this installation cannot use: its feedback waits. `reason`: no-address or no-settings."""

    partner: str
    channel: str
    reason: str


def unaddressed(partners: Partners, *, mesh: bool) -> list[UnaddressedChannel]:
    """Return the partners whose feedback has a channel without address or settings, by id.

    fhir needs `feedback_url` in deployment.yaml (no-address); mesh needs the settings of MESH (no-settings). `mesh`: whether they are
    set; True if the caller does not know. A partner's channel is never replaced by another: its feedback waits, and fails after
    LIGHTBULB_FEEDBACK_GIVE_UP_AFTER.

    The notifier logs the result at its start and replaces table `notifier.unaddressed (partner, channel, reason, noticed_at)` by it,
    which `lightbulb status` shows; `lightbulb directory check --deployment FILE` names the same partners.
    """
    return [
        UnaddressedChannel(partner.id, partner.feedback.channel, reason)
        for partner in sorted(partners, key=lambda one: one.id)
        if (reason := _missing_for(partner, partners.access(partner.id), mesh=mesh))
    ]


def _missing_for(partner: Partner, access: PartnerCredentials, *, mesh: bool) -> str | None:
    match partner.feedback.channel:
        case "fhir" if access.feedback_url is None:
            return "no-address"
        case "mesh" if not mesh:
            return "no-settings"
        case _:
            return None


def new_token() -> tuple[str, str]:
    """Return a new bearer token and its hash. Give the token to the partner once; put the hash into deployment.yaml."""
    token = secrets.token_urlsafe(32)
    return token, hash_of(token)


def hash_of(token: str) -> str:
    """Return the SHA-256 of a token. Tokens are 256 random bits, so the hash needs no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _contradictions(partners_file: ConfigFile[PartnersFile]) -> Iterator[ConfigIssue]:
    ids = [partner.id for partner in partners_file.value.partners]
    codes = [None if partner.hub else partner.ods for partner in partners_file.value.partners]
    for place in yaml_files.duplicates(ids):
        yield partners_file.issue(("partners", place, "id"), f"two partners have the id {ids[place]}")
    for place in yaml_files.duplicates(codes):
        yield partners_file.issue(("partners", place, "ods"), f"two partners have the ODS code {codes[place]}")


def _unknown_partners(deployment_file: ConfigFile[Deployment], partners_file: PartnersFile) -> Iterator[ConfigIssue]:
    """Find unknown partners in deployment.yaml, and credentials and ports that are given twice."""
    by_id = {partner.id: partner for partner in partners_file.partners}
    credentials: set[str] = set()
    ports: set[int] = set()
    for name, one in deployment_file.value.partners.items():
        if name not in by_id:
            yield deployment_file.issue(("partners", name), f"partners.yaml has no partner {name}")
        for setting, hashes in one.credentials.items():
            what = "tokens" if setting == "token_sha256" else "certificates"
            if credentials.intersection(hashes):
                yield deployment_file.issue(("partners", name, setting), f"one of these {what} is given twice")
            credentials.update(hashes)
        for setting, port in one.mllp_ports.items():
            if port in ports:
                yield deployment_file.issue(("partners", name, setting), f"port {port} is given twice")
            ports.add(port)
        yield from _not_sent(deployment_file, name, one, by_id.get(name))


def _not_sent(
    deployment_file: ConfigFile[Deployment], name: str, one: PartnerCredentials, partner: Partner | None
) -> Iterator[ConfigIssue]:
    """Find ports and certificates for messages that the partner may not send."""
    if one.mllp_port is not None and not (partner and partner.may_send("hl7v2")):
        yield deployment_file.issue(
            ("partners", name, "mllp_port"), f"{name} may not send hl7v2, so it cannot have a port"
        )
    for setting in ("adt_mllp_port", "adt_certificate_sha256"):
        if getattr(one, setting) and not (partner and partner.hl7v2.adt):
            yield deployment_file.issue(
                ("partners", name, setting), f"{name} may not send ADT: partners.yaml has no hl7v2.adt: true"
            )
