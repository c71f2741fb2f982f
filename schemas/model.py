"""Base classes and shared identifiers of the published models."""

from typing import Annotated, NewType

from pydantic import BaseModel, ConfigDict, StringConstraints


class Immutable(BaseModel):
    """Base of every fact: frozen; fields that a newer version adds are ignored.

    Validation errors never repeat the wrong value: it may be patient data.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class StrictInput(BaseModel):
    """Base of what people or partners write: an unknown field is an error that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


ShortText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
"""One line of text."""

LongText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000)]
"""Free text, up to 10,000 characters."""

OdsCode = Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Za-z0-9]{3,10}$")]
"""Organisation or site code of the Organisation Data Service, such as B81001 or RWE."""

OnsCode = Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[EWSN][0-9]{8}$")]
"""ONS code of a local authority district, such as E07000130 for Charnwood."""

HubId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]{1,40}$")]
"""Identifier of a hub, or of an authority outside the county, in infra/reference_data/hubs.yaml."""

PartnerId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
"""Identifier of a partner in infra/reference_data/partners.yaml."""

Reference = NewType("Reference", str)
"""Our reference of a referral, such as LB-7K3M-9Q2X-4TDW: short enough to read out on the telephone."""

PersonKey = NewType("PersonKey", str)
"""Keyed hash that stands for a person: Kafka record key, unit of order and of locking. 32 hexadecimal digits."""

CaseId = NewType("CaseId", str)
"""Identifier of a case, derived from its person key and the referral that opened it."""
