"""Split a whole address in one cell into its lines and its postcode. Nothing of the address is lost.

A postcode is read at the end of the cell or of a line only, so that 'Flat B2 1st Floor' has none.
"""

import re
from typing import Any

from services.intake.translators import plausibility
from services.intake.translators.council_csv.cells import ValueWithWarnings
from services.intake.translators.form.fields import ParseError
from services.intake.translators.translator import postcode as spelled

MOST_LINES, LONGEST_LINE = 10, 200

TWO_POSTCODES = ParseError("value", "has two postcodes: write the address where the person lives now only")
TOO_LONG = ParseError("too-long", f"is too long: at most {MOST_LINES} lines of {LONGEST_LINE} characters")

NOT_AT_THE_END = "has a postcode that was not read: write it at the end of the address"

_POSTCODE = re.compile(r"(?<![A-Z0-9])([A-Z]{1,2}[0-9][A-Z0-9]?)\s*([0-9][A-Z]{2})(?![A-Z0-9])", re.IGNORECASE)
_MISSPELLED = re.compile(
    r"(?<![A-Z0-9])(?:[A-Z]{1,2}[0-9OIL][A-Z0-9]?[\s.-]+[0-9OIL][A-Z]{2}|[A-Z]{1,2}[0-9OIL]{1,2}[\s.-]+[0-9OIL][A-Z0-9]{2})(?=\s*(?:[,\n]|$))"
)
_END = re.compile(r"[ ]*[.;]?[ ]*(?:[,\n]|$)")
_ORDINAL = re.compile(r"1st|2nd|3rd|[4-9]th", re.IGNORECASE)
_WITHIN_A_HOUSE = re.compile(
    r"flat|flt|unit|apartment|apt|room|rm|block|suite|plot|floor|bed|studio|no\.?", re.IGNORECASE
)
"""Words behind which the number of a flat stands."""


def read(text: str) -> Any:
    """Return the lines and the postcode of a cleaned cell, with warnings if it is in doubt; a `ParseError` if they are not certain."""
    if len(text) > 2 * MOST_LINES * LONGEST_LINE:
        return TOO_LONG
    matches = [match for match in _POSTCODE.finditer(text) if not _is_within_a_house(match, text)]
    if len(matches) > 1 and len({spelled(match[1] + match[2]) for match in matches}) > 1:
        return TWO_POSTCODES
    at_end = [match for match in matches if _END.match(text, match.end())]
    rest, postcode = text, None
    if at_end:
        postcode = spelled(at_end[-1][1] + at_end[-1][2])
        rest = text[: at_end[-1].start()] + text[at_end[-1].end() :].lstrip(" .;")
    lines = [line for part in rest.replace("\n", ",").split(",") if (line := " ".join(part.split()))]
    if len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE for line in lines):
        return TOO_LONG
    value = {"lines": lines, "postcode": postcode}
    warning = _warning(postcode, bool(matches), text)
    return ValueWithWarnings(value, (warning,)) if warning else value


def _is_within_a_house(match: "re.Match[str]", text: str) -> bool:
    """Return whether what looks like a postcode is the number of a flat and a floor or street: 'B2 1st', 'W1 4th'."""
    before = text[: match.start()].split()
    if before and _WITHIN_A_HOUSE.fullmatch(before[-1]):
        return True
    if not _ORDINAL.fullmatch(match[2]):
        return False
    is_alone = text[: match.start()].rstrip(" ")[-1:] in ("", ",", "\n")
    return not match[2].isupper() or not _END.match(text, match.end()) or not (is_alone or match.end() == len(text))


def _warning(postcode: str | None, has_postcode: bool, text: str) -> str | None:
    if postcode is not None:
        return None if plausibility.has_postcode_form(postcode) else plausibility.NO_POSTCODE_FORM
    if has_postcode:
        return NOT_AT_THE_END
    return plausibility.NO_POSTCODE_FORM if _MISSPELLED.search(text) else None
