"""Fit the content of a referral into the canonical model: what it refuses, usually because it is too long, a person reads."""

from collections.abc import Callable
from datetime import date
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.referral import Referral
from services.intake.translators import plausibility
from services.intake.translators.hl7v2.er7 import Reading
from services.intake.translators.translator import Issue, issue_for

Content = dict[str, Any]
Location = tuple[int | str, ...]


def fitted(content: Content, reading: Reading, place: Callable[[Location], str]) -> Referral:
    """Return the referral. A value that the model refuses is removed from the content and is a part to be read.

    `place`: the place in the message of a location. Raise ValidationError if an error is not of one value.
    """
    while True:
        try:
            return Referral.model_validate({**content, "to_be_read": reading.unread})
        except ValidationError as refused:
            # From the last on, because removing an entry from a list moves those after it.
            errors = reversed(refused.errors(include_url=False, include_input=False))
            removed = [(one, text) for one in errors if (text := _remove(content, one)) is not None]
            if not removed:
                raise
        for one, text in removed:
            reading.to_read(place(one["loc"]), issue_for("", one["type"]).kind, text)


def remove_implausible_dates(content: Content, reading: Reading, today: date, place: Callable[[Location], str]) -> None:
    """Remove each date that cannot stand at its place of the referral: one of a stay is a part to be read, others are warned of."""
    for path in plausibility.KINDS:
        *above, last = path.split(".")
        here: Any = content
        for part in above:
            here = here.get(part) if isinstance(here, dict) else None
        day = here.get(last) if isinstance(here, dict) else None
        if not isinstance(day, date) or not (doubt := plausibility.doubt(path, day, today, reading.fillers)):
            continue
        del here[last]
        source = place((*above, last))
        if path in _OF_A_STAY:
            reading.to_read(source, "value", f"{day:%Y%m%d}")
        else:
            reading.warn(Issue(source, "value", doubt.explanation))


_OF_A_STAY = ("hospital.admitted_on", "ready_for_transfer_on", "expected_discharge_on", "discharged_on")


def _remove(content: Content, error: ErrorDetails) -> str | None:
    """Remove the value of an error, or the entries over a limit, and return its text; None if that is not possible."""
    *path, last = error["loc"][:-1] if error["type"] == "missing" else error["loc"] or ("",)
    here: Any = content
    try:
        for part in path:
            here = here[part]
        if error["type"] == "too_long":
            most = error["ctx"]["max_length"]
            here[last], value = here[last][:most], here[last][most:]
        elif path or error["type"] != "missing":
            value = here.pop(last)
        else:
            return None
    except (LookupError, TypeError, AttributeError):
        return None
    return "\n".join(_texts(value))


_TECHNICAL = ("reference", "sha256", "system", "media_type")


def _texts(value: Any) -> list[str]:
    """Return all texts in a value."""
    if isinstance(value, dict):
        return _texts([one for name, one in value.items() if name not in _TECHNICAL])
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
