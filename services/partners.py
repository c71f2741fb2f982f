"""Who may send what, for whom, and where feedback goes: the one place that authenticates.

Two files say it. `infra/directory/partners.yaml` is reviewed data: organisations, formats, on whose behalf each may speak.
`deployment.yaml` belongs to one installation: hashes of the partners' tokens, and the addresses that their feedback goes to. Neither
holds a secret, and nothing in a message can change what they say.
"""

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import yaml
from pydantic import AnyHttpUrl, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from schemas.model import HubId, Line, OdsCode, OnsCode, PartnerId, Written
from schemas.referral import Organisation, ReferrerKind, Sender

Format = Annotated[str, StringConstraints(pattern=r"^(bars-fhir|hl7v2|council-csv|form:[a-z][a-z0-9-]{1,40})$")]
"""What a partner may send: a BaRS message, HL7 v2, a council's rows, or one named form."""

TokenHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a bearer token, in hexadecimal."""


class DirectoryFault(Exception):
    """A file of partners is wrong; the text lists where and how."""


class Feedback(Written):
    """How a partner hears what happened. Addresses are in deployment.yaml, never in a message."""

    channel: Literal["fhir", "mesh", "mailbox"] = Field(
        "mailbox", description="FHIR endpoint of its system, MESH, or kept here to be fetched"
    )
    mesh_mailbox: Line | None = Field(None, description="MESH mailbox of the organisation, where the channel is mesh")

    @model_validator(mode="after")
    def _mesh_needs_a_mailbox(self) -> "Feedback":
        if (self.channel == "mesh") != (self.mesh_mailbox is not None):
            raise ValueError("mesh_mailbox is given with channel mesh, and only then")
        return self


class Partner(Written):
    """An organisation whose system may call us."""

    id: PartnerId = Field(description="Its name in addresses, logs and tables")
    name: Line = Field(description="Its name as people know it")
    kind: ReferrerKind | Literal["hub"] = Field(description="What it is as a referrer; a hub only reads attachments")
    ods: OdsCode | None = Field(None, description="Its ODS code, where it has one")
    hub: HubId | None = Field(None, description="Which hub it is, where kind is hub")
    council: OnsCode | None = Field(None, description="Which district it is, where kind is council")
    formats: tuple[Format, ...] = Field((), description="What it may send")
    speaks_for: tuple[OdsCode, ...] | Literal["any"] = Field(
        (), description="Organisations beside itself that may be its referrals' referrer"
    )
    conformance: Literal["full", "subset"] = Field(
        "full", description="full: the whole FHIR message is checked; subset: only what is read"
    )
    feedback: Feedback = Field(Feedback(), description="How it hears what happened")

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

    def may_speak_for(self, ods: str | None) -> bool:
        """True for itself, for whoever its entry names, and where no organisation is named at all."""
        return ods is None or self.speaks_for == "any" or ods == self.ods or ods in self.speaks_for


class Access(Written):
    """What one installation knows of a partner: hashes of its tokens, and where its feedback goes."""

    token_sha256: tuple[TokenHash, ...] = Field((), description="SHA-256 of each token that is valid now")
    feedback_url: AnyHttpUrl | None = Field(None, description="FHIR endpoint of its system for feedback")
    feedback_token_file: Path | None = Field(None, description="Owner-only file with the token that we show there")


class Deployment(Written):
    """deployment.yaml: what belongs to one installation."""

    partners: dict[PartnerId, Access] = Field({}, description="By partner")


class Partners:
    """Everybody who may call, and how each is recognised."""

    def __init__(self, partners: Iterable[Partner], deployment: Deployment) -> None:
        self._by_id: Mapping[str, Partner] = MappingProxyType({partner.id: partner for partner in partners})
        self._by_ods = {partner.ods: partner for partner in self._by_id.values() if partner.ods and not partner.hub}
        self._access = deployment.partners
        self._by_hash = {
            token_hash: self._by_id[name] for name, access in self._access.items() for token_hash in access.token_sha256
        }

    def __iter__(self) -> Any:
        return iter(self._by_id.values())

    def by_id(self, partner_id: str) -> Partner | None:
        """The partner of this name."""
        return self._by_id.get(partner_id)

    def by_ods(self, ods: str | None) -> Partner | None:
        """The partner whose organisation has this ODS code."""
        return self._by_ods.get(ods) if ods else None

    def access(self, partner_id: str) -> Access:
        """Where its feedback goes in this installation; empty where deployment.yaml does not name it."""
        return self._access.get(partner_id, Access())

    def authenticate(self, authorization_header: str | None) -> Partner | None:
        """Who shows this `Authorization` header, or none. Only the hash of the token is compared, in constant time.

        The one function that a signed JWT or a client certificate will come into.
        """
        scheme, _, token = (authorization_header or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        shown = hash_of(token.strip())
        known = next((kept for kept in self._by_hash if hmac.compare_digest(kept, shown)), None)
        return self._by_hash[known] if known else None


def load(directory: Path, deployment: Path | None) -> Partners:
    """Read both files; raises DirectoryFault with every fault, named by file and partner."""
    source = directory / "partners.yaml"
    partners = _validated(TypeAdapter(list[Partner]), (_read(source) or {}).get("partners"), source)
    access = _validated(TypeAdapter(Deployment), _read(deployment) or {}, deployment) if deployment else Deployment()
    faults = _contradictions(partners, access)
    if faults:
        raise DirectoryFault("\n".join(f"{source}: {fault}" for fault in faults))
    return Partners(partners, access)


def new_token() -> tuple[str, str]:
    """A new bearer token and its hash: hand the first to the partner once, write the second into deployment.yaml."""
    token = secrets.token_urlsafe(32)
    return token, hash_of(token)


def hash_of(token: str) -> str:
    """SHA-256 of a token. Tokens are 256 random bits, so the hash needs no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DirectoryFault(f"{path}: {getattr(error, 'strerror', None) or 'is not valid YAML'}") from None


def _validated(adapter: "TypeAdapter[Any]", data: Any, source: Path) -> Any:
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        lines = [f"{source}: {_place(fault['loc'], data)}: {fault['msg']}" for fault in faults]
        raise DirectoryFault("\n".join(lines)) from None


def _place(loc: tuple[int | str, ...], data: Any) -> str:
    """'partner gp-alder-lane, feedback.channel' instead of '3.feedback.channel'."""
    if loc and isinstance(loc[0], int) and isinstance(data, list) and isinstance(data[loc[0]], dict):
        return f"partner {data[loc[0]].get('id', f'number {loc[0] + 1}')}, {'.'.join(map(str, loc[1:])) or 'entry'}"
    return ".".join(map(str, loc)) or "file"


def _contradictions(partners: list[Partner], deployment: Deployment) -> list[str]:
    ids = {partner.id for partner in partners}
    hashes = [token_hash for access in deployment.partners.values() for token_hash in access.token_sha256]
    return [
        *(f"partner {name} is there twice" for name in _twice(partner.id for partner in partners)),
        *(f"ODS code {ods} belongs to two partners" for ods in _twice(p.ods for p in partners if p.ods and not p.hub)),
        *(f"deployment names partner {name}, which is not in the file" for name in deployment.partners.keys() - ids),
        *("deployment gives one token to two partners" for _ in _twice(hashes)),
    ]


def _twice(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
