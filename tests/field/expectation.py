"""Whether what was seen of a case is a right answer. Pure: no I/O.

An expectation is a list of alternatives; the case holds if all assertions of one of them do. The kinds of assertion:

    answers: [[AA, AE], AA]        for each message its answer, or the answers allowed: HTTP status or acknowledgement codes
    answer: CHECK                  the text of the last answer
    rows: [OUTCOME]                outcomes of all rows in the last answer, a council's report, in their order
    faults: {PLACE: KIND}          all faults that the last answer lists, by column or field
    warnings: {PLACE: KIND}        all warnings that the last answer lists, by column or field
    acknowledges: FT10260          MSA-2 of the last answer
    mirrored: {HEADER: TEXT}       headers of the last answer
    references: same | different   the references in the first and the last answer
    event: {PATH: CHECK}           the newest referral.event of the referral in the first answer
    published: nothing | CHECK     types of all events about the case on referral.event
    hub: {PATH: CHECK}             that referral, and its `case`, as the hub that holds the case was last sent them
    at: {HUB: {PATH: CHECK}}       the same as that hub was last sent them
    roles: {HUB: ROLE}             what these hubs are to its case
    hubs: [HUB]                    the only hubs that were sent the referral
    tasks: CHECK                   kinds of the tasks that hubs were sent on it
    cases: 2                       number of cases that the hubs see for the referrals
    nowhere: [WORDS]               words that no record about the case holds, on any topic
    feedback: CHECK                kinds of all feedback that the referrer was sent about the first referral
    said: CHECK                    the texts of that feedback
    letter: CHECK                  subjects of the letters about it

A PATH names a place of the published contract: `referral.needs[].service`. A CHECK is one or more of

    is: [VALUES]          every value is one of these; null stands for "not there"
    has: [WORDS]          each of the words stands in some value
    lacks: [WORDS]        none of the words stands in any value
    mentions: [WORDS]     at least one of the words stands in some value, in capitals or not

Ids are those of the input files.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Data = Mapping[str, Any]
REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")
SHOWN = 200
"""Characters of a value that a verdict shows."""


@dataclass(frozen=True)
class Answer:
    """What was answered to one message: the HTTP status, or the acknowledgement codes of all frames; and the text."""

    code: int | str
    text: str
    headers: Data = field(default_factory=dict)
    """Headers of an HTTP answer, by their names in small letters."""

    @property
    def is_positive(self) -> bool:
        return self.code in (200, 202, "AA", "CA AA")

    @property
    def reference(self) -> str | None:
        """The hub's reference of the referral."""
        found = REFERENCE.search(self.text)
        return found[0] if found else None

    @property
    def control_ids(self) -> list[str]:
        """MSA-2 of each acknowledgement."""
        return re.findall(r"^MSA\|[^|\r\n]*\|?([^|\r\n]*)", self.text, re.M)

    @property
    def rows(self) -> list[Data]:
        """The rows of a council's report."""
        return list(self._content.get("rows", ()))

    def listed(self, name: str) -> dict[str, str]:
        """Kind by column or field of what the answer lists under `faults` or `warnings`, of the whole and of each row."""
        entries = [entry for one in (self._content, *self.rows) for entry in one.get(name, ())]
        return {entry.get("column") or entry["field"]: entry["kind"] for entry in entries}

    @property
    def _content(self) -> Data:
        try:
            content = json.loads(self.text)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class Seen:
    """What was seen of one case: the answers in order, and the records about it in the order of their topics."""

    answers: Sequence[Answer]
    events: Sequence[tuple[str, Data]] = ()
    """(type, data) of `referral.event`; the type is short: referral.received."""
    hubs: Sequence[tuple[str, Data]] = ()
    """(hub, data) of the hubs' topics."""
    feedback: Sequence[tuple[str, str]] = ()
    """Kind and text of the feedback on the referral in the first answer."""
    letters: Sequence[str] = ()
    """Subjects of the letters about it."""

    @property
    def reference(self) -> str | None:
        return self.answers[0].reference

    def referral_event(self) -> Data | None:
        """The newest event that carries the referral."""
        found = [data for _, data in self.events if data["reference"] == self.reference and "referral" in data]
        return max(found, key=lambda data: data["version"], default=None)

    def newest(self) -> list[tuple[str, Data]]:
        """For each hub, the last that it was sent about a case of the referral, with every referral that it knows of it."""
        cases = self.cases_of([self.reference])
        last: dict[tuple[str, str], Data] = {}
        for hub, data in sorted(self.hubs, key=lambda one: one[1].get("hub_version", 0)):
            if data["case_id"] in cases and ("case" in data or "of" in data):
                last[hub, data["case_id"]] = _with_known(data, last.get((hub, data["case_id"]), {}))
        return [(hub, data) for (hub, _), data in last.items()]

    def at_holder(self) -> Data | None:
        """The referral as the hub that holds its case sees it, with the case."""
        return self._referral_in([data for _, data in self.newest() if data.get("role") == "holder"])

    def at(self, hub: str) -> Data | None:
        """The referral as this hub sees it, with the case."""
        return self._referral_in([data for name, data in self.newest() if name == hub])

    def _referral_in(self, events: Sequence[Data]) -> Data | None:
        found = [{**one, "case": data["case"]} for data in events for one in data.get("referrals", ())]
        return next((one for one in found if one["reference"] == self.reference), None)

    def cases_of(self, references: Sequence[str | None]) -> set[str]:
        """The cases on which the hubs see any of these referrals."""
        return {
            data["case_id"]
            for _, data in self.hubs
            for one in data.get("referrals", ())
            if one["reference"] in references
        }


def _with_known(data: Data, before: Data) -> Data:
    """Return an event with the referrals that earlier ones brought; without the open ones that it does not name, if it names all."""
    if data.get("role") == "former":
        return data
    referrals = {one["reference"]: one for one in (*before.get("referrals", ()), *data.get("referrals", ()))}
    others = {one["reference"] for one in data.get("others", ())}
    if "of" not in data and len(others) == data.get("others_count", 0) and not data.get("snapshots"):
        named = others | {one["reference"] for one in data.get("referrals", ())}
        referrals = {name: one for name, one in referrals.items() if name in named or not one.get("open_needs")}
    return {**before, **data, "referrals": list(referrals.values())}


def of_cases(events: Sequence[tuple[str, Data]], case_ids: Collection[str]) -> list[tuple[str, Data]]:
    """Return the events of the hubs' topics about these cases, also those that show no referral: to a hub that follows on, or is former."""
    return [(hub, data) for hub, data in events if "hub_version" in data and data["case_id"] in case_ids]


def with_effects(right: Data) -> Data:
    """Return an alternative with what must follow from it at the hub and in the feedback, where it says nothing of them.

    A path of `hub` with null in place of a check is not asserted there.
    """
    if right.get("published") == "nothing":
        return {"feedback": {"is": [None]}, **right}
    types: Data = right.get("published", {})
    cancelled = "referral.cancelled" in types.get("has", ())
    at_hub = {path: check for path, check in right.get("event", {}).items() if path.startswith("referral")}
    at_hub |= right.get("hub", {})
    status = {"is": ["cancelled"] if cancelled else ["requested"]}
    ends = {"has": ["cancelled"]} if cancelled else {"lacks": ["cancelled"]}
    feedback = {"mentions": ["received", "home-hub", "status requested"], **ends}
    hub = {path: check for path, check in {"status": status, **at_hub}.items() if check is not None}
    return {"feedback": feedback, **right, "hub": hub}


def wrong(alternatives: Sequence[Data], seen: Seen) -> str | None:
    """Return None if one alternative holds, else what is wrong with each."""
    found = []
    for alternative in alternatives:
        problem = next(_problems(alternative, seen), None)
        if problem is None:
            return None
        found.append(problem)
    return "; or: ".join(dict.fromkeys(found))


def _problems(alternative: Data, seen: Seen) -> Iterator[str]:
    for kind, expected in alternative.items():
        problem = KINDS[kind](expected, seen)
        if problem:
            yield problem


# ---- kinds of assertion: each returns what is wrong, or None -----------------------------------------------------------


def _answers(expected: Sequence[Any], seen: Seen) -> str | None:
    allowed = [one if isinstance(one, list) else [one] for one in expected]
    codes = [answer.code for answer in seen.answers]
    if len(codes) == len(allowed) and all(code in some for code, some in zip(codes, allowed, strict=True)):
        return None
    return f"answered {_listed(codes)}, expected {_listed(['/'.join(map(str, some)) for some in allowed])}"


def _answer(expected: Data, seen: Seen) -> str | None:
    return _check(expected, [seen.answers[-1].text], "the answer")


def _rows(expected: Sequence[str], seen: Seen) -> str | None:
    found = [row["outcome"] for row in seen.answers[-1].rows]
    return None if found == list(expected) else f"the rows are {_listed(found) or 'none'}, expected {_listed(expected)}"


def _entries(name: str) -> Callable[[Any, Seen], str | None]:
    def check(expected: Data, seen: Seen) -> str | None:
        found = seen.answers[-1].listed(name)
        return None if found == expected else f"{name}: {_text(found)}, expected {_text(expected)}"

    return check


def _acknowledges(expected: str, seen: Seen) -> str | None:
    ids = seen.answers[-1].control_ids
    return None if set(ids) == {expected} else f"the acknowledgement names message {_listed(ids) or 'nothing'}"


def _mirrored(expected: Data, seen: Seen) -> str | None:
    headers = seen.answers[-1].headers
    missing = [name for name, value in expected.items() if headers.get(name) != value]
    return f"the answer does not repeat {_listed(missing)}" if missing else None


def _references(expected: str, seen: Seen) -> str | None:
    first, last = seen.answers[0].reference, seen.answers[-1].reference
    if first is None or last is None:
        return "an answer gives no reference"
    return None if (first == last) is (expected == "same") else f"the references are not {expected}"


def _event(expected: Data, seen: Seen) -> str | None:
    return _places(expected, seen.referral_event(), "referral.event")


def _published(expected: str | Data, seen: Seen) -> str | None:
    types = [kind for kind, _ in seen.events]
    if expected == "nothing":
        about = seen.events or seen.hubs
        return f"published all the same: {_listed(types)}" if about else None
    assert isinstance(expected, Mapping)
    return _check(expected, types, "referral.event")


def _hub(expected: Data, seen: Seen) -> str | None:
    return _places(expected, seen.at_holder(), "the hub that holds the case")


def _at(expected: Mapping[str, Data], seen: Seen) -> str | None:
    problems = (_places(checks, seen.at(hub), hub) for hub, checks in expected.items())
    return next(filter(None, problems), None)


def _roles(expected: Data, seen: Seen) -> str | None:
    roles = [(hub, data.get("role")) for hub, data in seen.newest()]
    if set(expected.items()) <= set(roles):
        return None
    return f"the case is with {_listed([f'{hub} ({role})' for hub, role in roles]) or 'no hub'}"


def _hubs(expected: Sequence[str], seen: Seen) -> str | None:
    cases = seen.cases_of([seen.reference])
    informed = {hub for hub, data in seen.hubs if data["case_id"] in cases and data.get("referrals")}
    return None if informed == set(expected) else f"{_listed(sorted(informed)) or 'no hub'} was sent it"


def _tasks(expected: Data, seen: Seen) -> str | None:
    cases = seen.cases_of([seen.reference])
    return _check(
        expected, [data["kind"] for _, data in seen.hubs if "due" in data and data["case_id"] in cases], "tasks"
    )


def _cases(expected: int, seen: Seen) -> str | None:
    cases = seen.cases_of([answer.reference for answer in seen.answers])
    return None if len(cases) == expected else f"{len(cases)} cases, expected {expected}"


def _nowhere(expected: Sequence[str], seen: Seen) -> str | None:
    for topic, data in [*seen.events, *seen.hubs]:
        for words in expected:
            if words.casefold() in _text(data).casefold():
                return f"{topic} holds {words!r}"
    return None


def _feedback(expected: Data, seen: Seen) -> str | None:
    return _check(expected, [kind for kind, _ in seen.feedback], "feedback")


def _said(expected: Data, seen: Seen) -> str | None:
    return _check(expected, [text for _, text in seen.feedback], "text of the feedback")


def _letter(expected: Data, seen: Seen) -> str | None:
    return _check(expected, seen.letters, "subject of the letter")


KINDS: dict[str, Callable[[Any, Seen], str | None]] = {
    "answers": _answers,
    "answer": _answer,
    "rows": _rows,
    "faults": _entries("faults"),
    "warnings": _entries("warnings"),
    "acknowledges": _acknowledges,
    "mirrored": _mirrored,
    "references": _references,
    "event": _event,
    "published": _published,
    "hub": _hub,
    "at": _at,
    "roles": _roles,
    "hubs": _hubs,
    "tasks": _tasks,
    "cases": _cases,
    "nowhere": _nowhere,
    "feedback": _feedback,
    "said": _said,
    "letter": _letter,
}


# ---- checks of values --------------------------------------------------------------------------------------------------


def _places(expected: Data, data: Data | None, where: str) -> str | None:
    if data is None:
        return f"nothing of the referral at {where}"
    for path, check in expected.items():
        problem = _check(check, values(data, path), path)
        if problem:
            return problem
    return None


def values(data: Any, path: str) -> list[Any]:
    """What stands at a path; `[]` behind a name means each element."""
    found = [data]
    for name in path.split("."):
        found = [one[name.removesuffix("[]")] for one in found if one and name.removesuffix("[]") in one]
        if name.endswith("[]"):
            found = [element for one in found for element in one]
    return found


def _check(check: Data, found: Sequence[Any], where: str) -> str | None:
    texts = [_text(one) for one in found]
    shown = _listed(texts)[:SHOWN] or "nothing"
    fits = {"is": _is, "has": _has, "lacks": _lacks, "mentions": _mentions}
    for kind, expected in check.items():
        if not fits[kind](expected, found, texts):
            return f"{where}: {shown} (expected: {kind} {_listed(expected)})"
    return None


def _is(expected: Sequence[Any], found: Sequence[Any], _: Sequence[str]) -> bool:
    return all(one in expected for one in found) if found else None in expected


def _has(expected: Sequence[str], _: Sequence[Any], texts: Sequence[str]) -> bool:
    return all(any(words in text for text in texts) for words in expected)


def _lacks(expected: Sequence[str], _: Sequence[Any], texts: Sequence[str]) -> bool:
    return not any(words in text for text in texts for words in expected)


def _mentions(expected: Sequence[str], _: Sequence[Any], texts: Sequence[str]) -> bool:
    return any(words.casefold() in text.casefold() for text in texts for words in expected)


def _text(value: Any) -> str:
    """A value as text; what is empty in it says nothing, and neither does its name."""
    return value if isinstance(value, str) else json.dumps(_without_empty(value), ensure_ascii=False)


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_empty(one) for name, one in value.items() if one not in (None, False, "", [], {})}
    return [_without_empty(one) for one in value] if isinstance(value, list) else value


def _listed(some: Sequence[Any]) -> str:
    return ", ".join(map(str, some))
