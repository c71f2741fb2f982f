"""Fit the content of a referral into the canonical model: what it refuses, usually because it is too long, a person reads."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.referral import Referral
from services.intake.translators.hl7v2.er7 import Reading
from services.intake.translators.translator import issue_for

Content = dict[str, Any]
Location = tuple[int | str, ...]


def fitted(content: Content, reading: Reading, place: Callable[[Location], str]) -> Referral:
    """Return the referral. A value that the model refuses is taken out of the content and is a part to be read.

    `place`: the place in the message of a location. Raise ValidationError if a fault is not of one value.
    """
    while True:
        try:
            return Referral.model_validate({**content, "to_be_read": reading.unread})
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            # From the last on, because taking an entry out of a list moves those after it.
            taken = [(one, _take_out(content, one)) for one in reversed(faults)]
            if all(text is None for _, text in taken):
                raise
            for one, text in taken:
                if text is not None:
                    reading.to_read(place(tuple(one["loc"])), issue_for("", one["type"]).kind, text)


def _take_out(content: Content, fault: ErrorDetails) -> str | None:
    """Take out the value, or the entries over a limit, and return its text; None if that is not possible."""
    kind, loc = fault["type"], fault["loc"]
    if kind == "missing":
        if len(loc) < 3:
            return None
        loc = loc[:-1]
    here: Any = content
    try:
        for part in loc[:-1]:
            here = here[part]
        value = here[loc[-1]]
        if kind == "too_long":
            most = fault["ctx"]["max_length"]
            here[loc[-1]], value = value[:most], value[most:]
        else:
            del here[loc[-1]]
    except (LookupError, TypeError):
        return None
    return "\n".join(_texts(value))


_NOT_WORDS = ("reference", "sha256", "system", "media_type")


def _texts(value: Any) -> list[str]:
    """Return all texts in a value."""
    if isinstance(value, dict):
        return _texts([one for name, one in value.items() if name not in _NOT_WORDS])
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
