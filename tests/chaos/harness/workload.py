"""The senders, their formats, and what each format can express, as in docs/partners."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["bars", "form", "hl7", "csv"]


@dataclass(frozen=True)
class SenderProfile:
    """A sender and its format. `practice`: the referring organisation. `asker`: the referrer in the form's words."""

    source: str
    partner: str
    format: Format
    practice: str = ""
    form: str = ""
    asker: str = ""
    over_http: bool = False


COUNCILS = (
    "blaby",
    "charnwood",
    "harborough",
    "hinckley-bosworth",
    "melton",
    "nw-leicestershire",
    "oadby-wigston",
)

SENDERS = (
    SenderProfile("gp", "gp-alder-lane", "bars", "C82991"),
    SenderProfile("gp", "gp-alder-lane", "bars", "C82991"),
    SenderProfile("gp", "gp-brook-street", "bars", "C82992"),
    SenderProfile("gp", "gp-castle-view", "bars", "C82993"),
    SenderProfile("first-contact", "first-contact", "bars", "C82992"),
    SenderProfile("first-contact", "first-contact", "form", "C82991", "first-contact-plus", "gp"),
    SenderProfile("first-contact", "first-contact", "form", "C82993", "first-contact-plus", "gp"),
    SenderProfile("first-contact", "first-contact", "form", "", "first-contact-plus", "self"),
    SenderProfile("customer-service", "customer-service", "form", "", "customer-service", "family"),
    SenderProfile("customer-service", "customer-service", "form", "", "customer-service", "customer-service"),
    SenderProfile("customer-service", "customer-service", "form", "C82991", "customer-service", "clinician"),
    SenderProfile("neighbourhood", "neighbourhood-teams", "form", "", "neighbourhood", "coordinator"),
    SenderProfile("neighbourhood", "neighbourhood-teams", "form", "C82992", "neighbourhood", "clinician"),
    SenderProfile("neighbourhood", "neighbourhood-teams", "form", "", "neighbourhood", "other"),
    SenderProfile("website", "lightbulb-website", "form", "", "self", "self"),
    SenderProfile("website", "lightbulb-website", "form", "", "self", "carer"),
    SenderProfile("discharge-form", "uhl", "form", "", "hospital-discharge", "hospital-team"),
    SenderProfile("discharge-form", "lpt", "form", "", "hospital-discharge", "hospital-team"),
    SenderProfile("ward-uhl", "uhl", "hl7", "RWE"),
    SenderProfile("ward-uhl", "uhl", "hl7", "RWE"),
    SenderProfile("ward-uhl", "uhl", "hl7", "RWE", over_http=True),
    SenderProfile("ward-lpt", "lpt", "hl7", "RT5"),
    SenderProfile("ward-lpt", "lpt", "hl7", "RT5"),
    SenderProfile("ward-lpt", "lpt", "hl7", "RT5", over_http=True),
    *(SenderProfile("council", f"council-{council}", "csv") for council in COUNCILS),
)
"""Senders listed twice are drawn twice as often."""

SOURCES = tuple(dict.fromkeys(sender.source for sender in SENDERS))
SOURCE_PAIRS = (
    *((one, other) for one in SOURCES for other in SOURCES if one != other),
    ("gp", "gp"),
    ("council", "council"),
)
"""Two sources for one person, in both orders."""

WITHOUT_TIME_OF_CHANGE = frozenset({"charnwood", "hinckley-bosworth", "melton", "oadby-wigston"})
"""Councils whose rows have no time of change: the last row is valid, even if it is older."""

WITH_REFERRAL_DATE = frozenset({"charnwood", "nw-leicestershire", "oadby-wigston"})
"""Councils that give the day of the referral. If two sources give two districts, the earliest day decides."""

WITHOUT_CANCEL = frozenset({"harborough", "melton"})
"""Councils whose rows have neither a status nor the person's consent."""


def council(partner: str) -> str:
    return partner.removeprefix("council-")


def has_time_of_change(partner: str) -> bool:
    """Return True if the sender's own time distinguishes an older message from a newer one."""
    return council(partner) not in WITHOUT_TIME_OF_CHANGE


def can_cancel(partner: str) -> bool:
    return council(partner) not in WITHOUT_CANCEL


def can_conflict(way_format: str) -> bool:
    """Return False for forms and HL7 v2: other content under a known reference is a newer form, or an update."""
    return way_format not in ("form", "hl7")
