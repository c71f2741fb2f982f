"""Keys that stand for people and referrals: keyed hashes, so that neither can be guessed nor read back."""

import hashlib
import hmac
from uuid import UUID, uuid5

from schemas.model import PersonKey, Reference

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U, so that a reference can be read out on the telephone."""

EVENTS = UUID("8a3f6f0e-1f5c-5d0b-9f52-6d0a4c1b7e21")
"""Namespace of event ids."""


def person_key(secret: bytes, nhs_number: str | None, partner: str, referral_id: str) -> PersonKey:
    """Stands for a person: from the NHS number, or from partner and referral where there is no usable number."""
    named = f"nhs:{nhs_number}" if nhs_number else f"ref:{partner}:{referral_id}"
    return PersonKey(_keyed(secret, named).hex()[:32])


def reference(secret: bytes, partner: str, referral_id: str) -> Reference:
    """The hub's reference of a referral, such as LB-7K3M-9Q2X-4TDW: 60 bits of a keyed hash."""
    bits = int.from_bytes(_keyed(secret, f"reference:{partner}:{referral_id}")[:8], "big") >> 4
    letters = "".join(CROCKFORD[bits >> shift & 31] for shift in range(55, -1, -5))
    return Reference(f"LB-{letters[:4]}-{letters[4:8]}-{letters[8:]}")


def attachment_key(secret: bytes) -> bytes:
    """The key of attachment references."""
    return _keyed(secret, "attachments")


def check_value(secret: bytes) -> str:
    """What the database keeps, so that a service with another secret is recognised."""
    return _keyed(secret, "check").hex()


def event_id(of: Reference, version: int) -> str:
    """The id of the event of one version of a referral: the same in every replay."""
    return str(uuid5(EVENTS, f"{of} {version}"))


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal: proof of which bytes were delivered."""
    return hashlib.sha256(content).hexdigest()


def _keyed(secret: bytes, named: str) -> bytes:
    return hmac.digest(secret, named.encode(), "sha256")
