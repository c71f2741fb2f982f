"""Change what one cell of a council's row, or one value of a form, says; the change must be visible.

After a change the referral is another one, the message is refused, or it has another warning. Otherwise a value was dropped silently.
`HARMLESS` lists the reviewed exceptions.
"""

import copy
import csv
import io
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from services.intake.translators.inbound_message import Translator
from services.intake.translators.translator import Rejection, Translated
from tests.contract.translators.adapters import Adapter
from tests.field.exports import EXPORTS, Export
from tests.fuzz.judge import assert_that

HARMLESS: dict[str, str] = {
    r" at council-\S+ (Ward Name|Budget Code|row_version|FILLER|Contractor|Cost)$": "columns that are not read, as the council's page says",
    r"leaving out at council-\S+ (Case Status|State)$": "the golden rows are open, which an empty status means too",
    r"leaving out at council-\S+ (Consent GP|Agreed to share|OKSHARE|Told us yes)$": "their consent is not recorded, as an empty one",
    r"leaving out at council-charnwood How urgent$": "routine is what no priority means",
    r"leaving out at council-harborough carer_name$": "the cell is NULL, which means empty in this file",
    r"a number behind at council-hinckley-bosworth (BIRTH|SS127)$": "a day number with a decimal comma and no time",
    r"another value at council-\S+ (Certified|SS127)$": "the day after a filler is another filler, and not given either",
    r"leaving out at form-\S+ (restricted_access|no_fixed_abode|has_died)$": "they are no, which is what silence means",
    r"leaving out at form-\S+ (form|priority)$": "the form's own name; routine is what no priority means",
    r"a list of it at form-\S+ (given_names|communication_needs)$": "one line, or a list of one line",
    r"leaving out at form-\S+ (needs\.(homeless|falls|hearing)|cancelled|cancel_reason)$": "they are no or blank, as silence is",
    r"a list of it at form-\S+ (needs\.weight|consents\.evaluation|completed_at|cancel_reason)$": "they are blank, as a list of it is",
}
"""By a pattern of `kind at adapter place`: why nothing is lost."""


@dataclass(frozen=True)
class Change:
    """One changed message: where, and how it differs from the original."""

    adapter: Adapter
    place: str
    kind: str
    body: bytes = field(repr=False)

    @property
    def is_harmless(self) -> bool:
        return any(re.search(pattern, str(self)) for pattern in HARMLESS)

    def __str__(self) -> str:
        return f"{self.kind} at {self.adapter.name} {self.place}"


Original = tuple[Adapter, bytes, Translated]


@cache
def originals(adapter: Adapter, golden: Path) -> Sequence[Original]:
    """The golden messages of a translator that are referrals, without those in parts, each with its translation."""
    bodies = (path.read_bytes() for path in sorted((golden / adapter.name).glob("*.in")))
    made = [(adapter, body, adapter.translate(adapter.delivery(body))) for body in bodies if not body.startswith(b"--")]
    return [(one, body, said) for one, body, said in made if isinstance(said, Translated) and said.referral]


def assert_visible(change: Change, base: Translated, translate: Translator | None = None) -> None:
    """Raise Broken if the change is not visible and not harmless. `base`: the translation of the message before the change."""
    assert_that(change.is_harmless or is_seen(change, base, translate), f"{change} changes nothing")


def is_seen(change: Change, base: Translated, translate: Translator | None = None) -> bool:
    """Return whether the sender or a hub can see that the message is another one."""
    return bool(seen((translate or change.adapter.translate)(change.adapter.delivery(change.body))) != seen(base))


def seen(made: Translated | Rejection) -> Any:
    """All that a translation lets its sender and the hubs see."""
    if isinstance(made, Rejection):
        return "refused"
    decided = made.intent, made.referral_id, made.cancel_reason, made.death_reported, made.sent_at, made.subject
    return decided, made.referral, made.warnings


def assert_any_visible(golden: Path, adapters: Sequence[Adapter], data: bytes) -> None:
    """Raise Broken if a change that the bytes choose is not visible in a golden message."""
    draw = random.Random(data)
    original = draw.choice([one for adapter in adapters for one in originals(adapter, golden)])
    assert_visible(draw.choice(list(changes(original))), original[2])


def one_of_each(golden: Path, adapters: Sequence[Adapter]) -> Iterator[tuple[Change, Translated]]:
    """Yield each kind of change at each place once, with the translation before it."""
    known: set[str] = set()
    for original in (one for adapter in adapters for one in originals(adapter, golden)):
        for change in changes(original):
            if str(change) not in known:
                known.add(str(change))
                yield change, original[2]


def changes(original: Original) -> Iterator[Change]:
    """Yield every change of one value."""
    adapter, body, _ = original
    return _of_form(adapter, body) if adapter.name.startswith("form-") else _of_row(adapter, body)


# ---- texts --------------------------------------------------------------------------------------------------------------

Says = Callable[[str], str]


def _another(text: str) -> str:
    """Another value of the same form: another digit at the end, or words with one letter more."""
    last = text[-1:]
    return text[:-1] + str((int(last) + 1) % 10) if last.isascii() and last.isdigit() else text + "x"


TEXTS: dict[str, Says] = {
    "leaving out": lambda text: "",
    "another value": _another,
    "a word behind": lambda text: f"{text} verdict",
    "a word in front": lambda text: f"verdict {text}",
    "a note in brackets": lambda text: f"{text} (verdict)",
    "a number behind": lambda text: f"{text},000",
    "a letter lost": lambda text: f"{text[:1]}\ufffd{text[1:]}",
    "a negation": lambda text: f"not {text}",
}


# ---- rows ---------------------------------------------------------------------------------------------------------------


def _of_row(adapter: Adapter, body: bytes) -> Iterator[Change]:
    export = EXPORTS[adapter.name.removeprefix("council-")]
    above, header, row = _taken_apart(body, export)
    for at, name in enumerate(header):
        for kind, says in TEXTS.items():
            changed = says(row[at])
            if row[at].strip() and changed.encode(export.codec, "ignore").decode(export.codec) == changed:
                cells = [*row[:at], changed, *row[at + 1 :]]
                yield Change(adapter, name, kind, above + export.line(cells))


def _taken_apart(body: bytes, export: Export) -> tuple[bytes, list[str], list[str]]:
    """What stands above the row, the header and the row of a message."""
    text = body.decode(export.codec)
    if export.quotes:
        *_, header, row = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=export.delimiter)
    else:
        *_, header, row = (line.split(export.delimiter) for line in text.splitlines())
    end = body.index(export.header.encode(export.codec)) + len(export.header.encode(export.codec))
    return body[:end] + b"\r\n", header, row


# ---- forms --------------------------------------------------------------------------------------------------------------

Steps = tuple[int | str, ...]
VALUES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("leaving out", lambda value: None),
    ("negating", lambda value: not value if isinstance(value, bool) else value),
    ("a boolean as a text", lambda value: str(not value).lower() if isinstance(value, bool) else value),
    ("another number", lambda value: value + 1 if isinstance(value, int) and not isinstance(value, bool) else value),
    ("a list of it", lambda value: [value]),
    ("an object of it", lambda value: {"value": value}),
    *(
        (kind, lambda value, says=says: says(value) if isinstance(value, str) else value)
        for kind, says in TEXTS.items()
    ),
)


def _of_form(adapter: Adapter, body: bytes) -> Iterator[Change]:
    form = json.loads(body)
    for steps, value in _values(form):
        for kind, other in VALUES:
            if (changed := other(value)) != value or type(changed) is not type(value):
                yield Change(adapter, ".".join(map(str, steps)), kind, _with(form, steps, changed))
    yield Change(adapter, "form", "a field that no form has", json.dumps({**form, "verdict": "yes"}).encode())


def _values(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Yield every value that is not a list or an object, with its steps."""
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if named is None:
        yield steps, value
    for name, below in named or ():
        yield from _values(below, (*steps, name))


def _with(form: Any, steps: Steps, value: Any) -> bytes:
    made = here = copy.deepcopy(form)
    for step in steps[:-1]:
        here = here[step]
    here[steps[-1]] = value
    return json.dumps(made).encode()
