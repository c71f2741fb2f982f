"""Records as the router's tables store them: compact JSON, compressed if it is long. What SQL selects by is in columns of its own."""

import json
from typing import TypeVar

from schemas.model import Immutable
from services.router.decide.model import Category
from services.runtime import compression

STATE_BYTES = 16_777_216
"""Maximum size of a record's JSON; that of a referral has about 2 KB."""

R = TypeVar("R", bound=Immutable)


def encode(record: Immutable) -> bytes:
    """Return a record as stored: without None values, so that a field that can be None must have the default None."""
    return compression.compress(record.__pydantic_serializer__.to_json(record, exclude_none=True))


def decode(kind: type[R], stored: bytes) -> R:
    """Return the record of these bytes. Raise compression.Corrupt."""
    return kind.model_validate_json(compression.decompress(stored, STATE_BYTES))


def encode_category(category: Category) -> str:
    """Return a category as short text, because three indexes hold it: a JSON list of the hub, the flags as bits, and the districts."""
    hub, *flags, districts = category
    bits = sum(flag << place for place, flag in enumerate(flags))
    return json.dumps([hub, bits, districts], separators=(",", ":"))


def decode_category(stored: str) -> Category:
    """Return the category of this text."""
    hub, bits, districts = json.loads(stored)
    flags = (bool(bits >> place & 1) for place in range(len(Category._fields) - 2))
    return Category._make([hub, *flags, districts])
