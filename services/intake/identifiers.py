"""Person keys, references and event ids. Keys and references are keyed hashes: they cannot be guessed or reversed."""

import hashlib
import hmac
from uuid import UUID, uuid5

from schemas.model import PersonKey, Reference
from schemas.text import fold_name
from services.intake.translators.translator import Subject

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U, so that a reference can be read out on the telephone."""

EVENTS = UUID("8a3f6f0e-1f5c-5d0b-9f52-6d0a4c1b7e21")
"""Namespace of event ids."""


def person_key(secret: bytes, nhs_number: str | None, partner: str, referral_id: str) -> PersonKey:
    """Return the key of a person, from the NHS number, or from partner and referral if there is no usable number."""
    named = f"nhs:{nhs_number}" if nhs_number else f"ref:{partner}:{referral_id}"
    return PersonKey(_keyed(secret, named).hex()[:32])


def reference(secret: bytes, partner: str, referral_id: str) -> Reference:
    """Return the hub's reference of a referral, such as LB-7K3M-9Q2X-4TDW: 60 bits of a keyed hash."""
    bits = int.from_bytes(_keyed(secret, f"reference:{partner}:{referral_id}")[:8], "big") >> 4
    letters = "".join(CROCKFORD[bits >> shift & 31] for shift in range(55, -1, -5))
    return Reference(f"LB-{letters[:4]}-{letters[4:8]}-{letters[8:]}")


def subject_hashes(secret: bytes, subject: Subject | None) -> str:
    """Return keyed hashes of NHS number, birth date and family name, to compare; "-" for what is not given."""
    if subject is None:
        return ""
    parts = (subject.nhs_number, subject.birth_date, fold_name(subject.family_name))
    named = zip(("number", "birth", "family"), parts, strict=True)
    return " ".join(_keyed(secret, f"subject-{name}:{part}").hex()[:16] if part else "-" for name, part in named)


def attachment_key(secret: bytes) -> bytes:
    """Return the key of attachment references."""
    return _keyed(secret, "attachments")


def check_value(secret: bytes) -> str:
    """Return the value that the database stores to detect a service with another secret."""
    return _keyed(secret, "check").hex()


def event_id(of: Reference, version: int) -> str:
    """Return the id of the event of one version of a referral, the same in every replay."""
    return str(uuid5(EVENTS, f"{of} {version}"))


def sha256(content: bytes) -> str:
    """Return the SHA-256 of delivered bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _keyed(secret: bytes, named: str) -> bytes:
    return hmac.digest(secret, named.encode(), "sha256")
