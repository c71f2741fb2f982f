"""Who may send what, for whom, and where feedback goes: the one place that authenticates.

Two files say it. `infra/reference_data/partners.yaml` is reviewed data: organisations, formats, on whose behalf each may speak.
`deployment.yaml` belongs to one installation: hashes of the partners' tokens and certificates, the port that is a partner's own for
MLLP, and the addresses that their feedback goes to. Neither holds a secret, and nothing in a message can change what they say.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
"""What a partner may send: a BaRS message, HL7 v2, a council's rows, or one named form."""

TokenHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a bearer token, in hexadecimal."""

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a client certificate in DER, in hexadecimal: `openssl x509 -in certificate.pem -outform DER | sha256sum`."""

THIS_MACHINE = TypeAdapter(tuple[IPvAnyNetwork, ...]).validate_python(("127.0.0.0/8", "::1/128"))


class FeedbackSettings(StrictInput):
    """How a partner hears what happened. Addresses are in deployment.yaml, never in a message."""

    channel: Literal["fhir", "mesh", "mailbox"] = Field(
        "mailbox", description="FHIR endpoint of its system, MESH, or kept here to be fetched"
    )
    mesh_mailbox: ShortText | None = Field(
        None, description="MESH mailbox of the organisation, where the channel is mesh"
    )

    @model_validator(mode="after")
    def _mesh_needs_a_mailbox(self) -> "FeedbackSettings":
        if (self.channel == "mesh") != (self.mesh_mailbox is not None):
            raise ValueError("mesh_mailbox is given with channel mesh, and only then")
        return self


class Hl7v2(StrictInput):
    """How HL7 v2 messages of a partner are acknowledged, where it differs from the book."""

    acknowledgement: Literal["as-asked", "original", "enhanced"] = Field(
        "as-asked",
        description="original: AA, AE or AR; enhanced: CA, CE or CR first; as-asked: what MSH-15 and MSH-16 say",
    )
    rri: bool = Field(
        False, description="True where an accepted referral is answered by RRI, with our reference in RF1-11"
    )


class Partner(StrictInput):
    """An organisation whose system may call us."""

    id: PartnerId = Field(description="Its name in addresses, logs and tables")
    name: ShortText = Field(description="Its name as people know it")
    kind: ReferrerKind | Literal["hub"] = Field(description="What it is as a referrer; a hub only reads attachments")
    ods: OdsCode | None = Field(None, description="Its ODS code, where it has one")
    hub: HubId | None = Field(None, description="Which hub it is, where kind is hub")
    council: OnsCode | None = Field(None, description="Which district it is, where kind is council")
    formats: tuple[Format, ...] = Field((), description="What it may send")
    acts_for: tuple[OdsCode, ...] | Literal["any"] = Field(
        (), description="Organisations beside itself that may be its referrals' referrer"
    )
    conformance: Literal["full", "subset"] = Field(
        "full", description="full: the whole FHIR message is checked; subset: only what is read"
    )
    messages_per_second: int | None = Field(
        None,
        ge=1,
        description="How fast it may send, where that is not the installation's LIGHTBULB_MESSAGES_PER_SECOND",
    )
    hl7v2: Hl7v2 = Field(Hl7v2(), description="How its HL7 v2 messages are acknowledged")
    feedback: FeedbackSettings = Field(FeedbackSettings(), description="How it hears what happened")

    @model_validator(mode="after")
    def _hub_is_named(self) -> "Partner":
        if (self.kind == "hub") != (self.hub is not None):
            raise ValueError("hub is given with kind hub, and only then")
        return self

    @property
    def organisation(self) -> Organisation:
        """The organisation that its credential stands for."""
        return Organisation(ods=self.ods, name=self.name)

    @property
    def sender(self) -> Sender:
        """What `sent_by` says of everything that it delivers."""
        return Sender(partner=self.id, organisation=self.organisation)

    def may_send(self, format: str) -> bool:  # noqa: A002 - the field's own word
        """True where its entry allows this format."""
        return format in self.formats

    def may_act_for(self, ods: str | None) -> bool:
        """True for itself, for whoever its entry names, and where no organisation is named at all."""
        return ods is None or self.acts_for == "any" or ods == self.ods or ods in self.acts_for


class PartnerCredentials(StrictInput):
    """What one installation knows of a partner: how its systems are recognised, and where its feedback goes."""

    token_sha256: tuple[TokenHash, ...] = Field((), description="SHA-256 of each token that is valid now")
    certificate_sha256: tuple[Fingerprint, ...] = Field(
        (), description="SHA-256 of each client certificate (DER) that is valid now, for MLLP over TLS"
    )
    mllp_port: int | None = Field(
        None, ge=1, le=65535, description="Port on which only this partner speaks MLLP, without TLS"
    )
    mllp_from: tuple[IPvAnyNetwork, ...] = Field(
        THIS_MACHINE,
        min_length=1,
        description="Networks from which it may connect to its port; this machine where none is named",
    )
    feedback_url: AnyHttpUrl | None = Field(None, description="FHIR endpoint of its system for feedback")
    feedback_token_file: Path | None = Field(None, description="Owner-only file with the token that we show there")


class Deployment(StrictInput):
    """deployment.yaml: what belongs to one installation."""

    partners: dict[PartnerId, PartnerCredentials] = Field({}, description="By partner")


class PartnersFile(StrictInput):
    """partners.yaml: everybody that is known."""

    partners: tuple[Partner, ...] = Field(description="Organisations whose systems may call us")


@dataclass(frozen=True)
class MllpListener:
    """A port that is one partner's own: who connects to it from one of its networks is the partner."""

    partner: Partner
    port: int
    networks: tuple[IPvAnyNetwork, ...]

    def accepts(self, address: str) -> bool:
        """True for an address of one of its networks."""
        peer = ip_address(address.partition("%")[0])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.networks)


class Partners:
    """Everybody who may call, and how each is recognised."""

    def __init__(self, partners: Iterable[Partner], deployment: Deployment) -> None:
        self._by_id: Mapping[str, Partner] = MappingProxyType({partner.id: partner for partner in partners})
        self._by_ods = {partner.ods: partner for partner in self._by_id.values() if partner.ods and not partner.hub}
        self._access = deployment.partners
        self._by_hash = {
            token_hash: self._by_id[name] for name, access in self._access.items() for token_hash in access.token_sha256
        }

        self._by_certificate = {
            digest: self._by_id[name] for name, access in self._access.items() for digest in access.certificate_sha256
        }

    def __iter__(self) -> Any:
        return iter(self._by_id.values())

    def by_id(self, partner_id: str) -> Partner | None:
        """The partner of this name."""
        return self._by_id.get(partner_id)

    def by_ods(self, ods: str | None) -> Partner | None:
        """The partner whose organisation has this ODS code."""
        return self._by_ods.get(ods) if ods else None

    def access(self, partner_id: str) -> PartnerCredentials:
        """Where its feedback goes in this installation; empty where deployment.yaml does not name it."""
        return self._access.get(partner_id, PartnerCredentials())

    def authenticate(self, authorization_header: str | None) -> Partner | None:
        """Who shows this `Authorization` header, or none. Only the hash of the token is compared, in constant time.

        The one function that a signed JWT will come into.
        """
        scheme, _, token = (authorization_header or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        shown = hash_of(token.strip())
        matching_hash = next(
            (stored_hash for stored_hash in self._by_hash if hmac.compare_digest(stored_hash, shown)), None
        )
        return self._by_hash[matching_hash] if matching_hash else None

    def by_certificate(self, der: bytes | None) -> Partner | None:
        """Who shows this client certificate (DER), or none. That its owner holds the key, TLS has seen to."""
        return self._by_certificate.get(hashlib.sha256(der).hexdigest()) if der else None

    def listeners(self) -> list[MllpListener]:
        """The ports that are partners' own: who is let in there is who the port says."""
        return [
            MllpListener(self._by_id[name], access.mllp_port, access.mllp_from)
            for name, access in self._access.items()
            if access.mllp_port is not None
        ]


def load(directory: Path, deployment: Path | None) -> Partners:
    """Read both files; raises reviewed.Faulty with every fault of them."""
    partners_file = yaml_files.load(directory / "partners.yaml", PartnersFile)
    deployment_file = yaml_files.load(deployment, Deployment) if deployment else None
    if issues := [
        *_contradictions(partners_file),
        *(_unknown_partners(deployment_file, partners_file.value) if deployment_file else ()),
    ]:
        raise yaml_files.ConfigError(issues)
    return Partners(partners_file.value.partners, deployment_file.value if deployment_file else Deployment())


def new_token() -> tuple[str, str]:
    """A new bearer token and its hash: hand the first to the partner once, write the second into deployment.yaml."""
    token = secrets.token_urlsafe(32)
    return token, hash_of(token)


def hash_of(token: str) -> str:
    """SHA-256 of a token. Tokens are 256 random bits, so the hash needs no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _contradictions(partners_file: ConfigFile[PartnersFile]) -> Iterator[ConfigIssue]:
    ids = [partner.id for partner in partners_file.value.partners]
    codes = [None if partner.hub else partner.ods for partner in partners_file.value.partners]
    for place in yaml_files.duplicates(ids):
        yield partners_file.issue(("partners", place, "id"), f"{ids[place]} is the id of two partners")
    for place in yaml_files.duplicates(codes):
        yield partners_file.issue(("partners", place, "ods"), f"{codes[place]} is the ODS code of two partners")


def _unknown_partners(deployment_file: ConfigFile[Deployment], partners_file: PartnersFile) -> Iterator[ConfigIssue]:
    """What deployment.yaml says of partners that are not there, and credentials that it gives to two."""
    ids = {partner.id for partner in partners_file.partners}
    hl7v2 = {partner.id for partner in partners_file.partners if partner.may_send("hl7v2")}
    credentials: set[str] = set()
    ports: set[int] = set()
    for name, one in deployment_file.value.partners.items():
        if name not in ids:
            yield deployment_file.issue(("partners", name), f"partners.yaml has no partner {name}")
        if credentials.intersection(one.token_sha256):
            yield deployment_file.issue(
                ("partners", name, "token_sha256"), "one of these tokens is another partner's too"
            )
        if credentials.intersection(one.certificate_sha256):
            yield deployment_file.issue(
                ("partners", name, "certificate_sha256"), "one of these is another partner's too"
            )
        credentials.update(one.token_sha256, one.certificate_sha256)
        if one.mllp_port is None:
            continue
        if name not in hl7v2:
            yield deployment_file.issue(("partners", name, "mllp_port"), f"{name} may not send hl7v2")
        if one.mllp_port in ports:
            yield deployment_file.issue(("partners", name, "mllp_port"), "is another partner's port too")
        ports.add(one.mllp_port)
