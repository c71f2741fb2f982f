"""One story, written in every format, is read as the same referral."""

from collections.abc import Callable
from typing import Any

from services.intake.translators import council_csv, form
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.form import Form
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Rejection, Translated
from tests.builders import story_writers
from tests.builders.stories import Story
from tests.builders.story_writers import Kind
from tests.contract.translators.adapters import ATTACHMENT_KEY, BARS, HL7V2, RECEIVED_AT, a_partner

FORMATS: dict[str, tuple[Translator, Callable[..., bytes]]] = {
    "bars": (BARS, story_writers.as_bars),
    "hl7v2": (HL7V2, story_writers.as_hl7v2),
    "form": (form.translator(Form.model_validate(story_writers.FORM)), story_writers.as_form),
    "row": (council_csv.translator(CouncilMapping.model_validate(story_writers.mapping())), story_writers.as_row),
}


def told(name: str, story: Story, kind: Kind = "new") -> Translated | Rejection:
    """Return what a format makes of a story."""
    translate, write = FORMATS[name]
    return translate(InboundMessage(a_partner("uhl"), write(story, kind), RECEIVED_AT, ATTACHMENT_KEY))


def places(value: Any, at: str = "") -> dict[str, Any]:
    """Return what is said by place: of a list of objects, the values of each name in order; nothing is not listed."""
    if isinstance(value, dict):
        found: dict[str, Any] = {at: True} if at in ("person.death_reported", "hospital") else {}
        for name, one in value.items():
            found |= places(one, f"{at}.{name}" if at else name)
        return found
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        each = [places(one, at) for one in value]
        names = dict.fromkeys(name for one in each for name in one)
        return {name: tuple(one.get(name) for one in each) for name in names}
    return {} if value in (None, "", [], ()) else {at: value}
