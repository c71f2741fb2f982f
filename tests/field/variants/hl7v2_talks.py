"""Kinds of conversations of a hospital: partial updates, late messages, repeats, cancels, whose referral it is, and a stay by ADT."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.field.variants import Made, Sent, kind
from tests.field.variants.draw import Draw
from tests.field.variants.ward import ADT_PLACES, BY_PLACE, NULL, UNITS, Held, Unit, Ward, say

AN_HOUR = 60


@dataclass
class Talk:
    """Messages of one hospital, what is right for each, and what they have said so far."""

    draw: Draw
    ward: Ward
    held: Held = field(default_factory=Held)
    sent: list[Sent] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def send(self, message: Ward, step: str, code: str = "AA") -> None:
        self.sent.append(message.sent())
        self.answers.append(code)
        self.steps.append(step)

    def again(self, number: int, step: str) -> None:
        """Send the bytes of an earlier message again."""
        self.sent.append(self.sent[number])
        self.answers.append(self.answers[number])
        self.steps.append(step)

    def made(self, *, hub: Mapping[str, Any] | None = None, **right: Any) -> Made:
        """Return the conversation; everything that was said must be read, unless `right` says what else."""
        event = {**self.held.reading(), **right.pop("event", {})}
        return (
            ", ".join(self.steps),
            self.sent,
            [{"answers": self.answers, "event": event, **({"hub": hub} if hub else {}), **right}],
        )

    # ---- messages that say units

    def open(self, *places: str) -> Ward:
        """Send the referral, which says these units too."""
        self.write(self.ward, {place: self._drawn(BY_PLACE[place]) for place in ("RF1-3", "PV1-3", "PID-11", *places)})
        self.send(self.ward, "new")
        return self.ward

    def update(self, event: str, minutes_ago: int, places: tuple[str, ...], step: str = "", **fields: Any) -> Ward:
        """Make a message that says or deletes each of these units; it is not sent yet."""
        message = self.ward.later(event, minutes_ago, **fields)
        said = {place: None if self._deletes(BY_PLACE[place]) else self._drawn(BY_PLACE[place]) for place in places}
        self.write(message, said)
        self.later = step or f"{event} of {minutes_ago} with {' '.join(places)}"
        return message

    def write(self, message: Ward, said: Mapping[str, tuple[str, Any] | None]) -> None:
        say(message, {place: None if one is None else one[0] for place, one in said.items()})
        self.held.apply(message.minutes_ago, {place: None if one is None else one[1] for place, one in said.items()})

    def _drawn(self, unit: Unit) -> tuple[str, Any]:
        return unit.values(self.draw)

    def _deletes(self, unit: Unit) -> bool:
        return unit.deletable and self.draw.between(0, 3) == 0


def _some(draw: Draw, places: tuple[str, ...], most: int) -> tuple[str, ...]:
    return tuple(draw.shuffled(places)[: draw.between(1, most)])


ALL = tuple(unit.place for unit in UNITS)


# ---- K1: a message is a change ------------------------------------------------------------------------------------------


@kind("hl7v2-partial-updates")
def partial_updates(draw: Draw) -> Made:
    """Each update says some units; whatever the order of arrival, each unit has what the latest message said of it."""
    talk = Talk(draw, Ward(draw))
    talk.open(*_some(draw, ALL, 8))
    minutes = sorted({draw.between(10, 3900) for _ in range(draw.between(1, 5))}, reverse=True)
    updates = []
    for ago in minutes:
        message = talk.update("I13", ago, _some(draw, ALL, 5))
        updates.append((message, talk.later))
    for message, step in draw.shuffled(updates) if draw.chance() else updates:
        talk.send(message, step)
    return talk.made(references="same")


SILENT: dict[str, Callable[[Ward], None]] = {
    "no PV1": lambda message: message.fields.pop("PV1", None),  # type: ignore[dict-item, return-value]
    "PV1|1": lambda message: message.fields.update(PV1={1: "1"}),
    "class O": lambda message: message.fields.update(PV1={1: "1", 2: "O"}),
    "class E": lambda message: message.fields.update(PV1={1: "1", 2: "E"}),
    "without PV1-45": lambda message: message.fields.update(PV1={1: "1", 2: "I"}),
}


@kind("hl7v2-silence")
def silence(draw: Draw) -> Made:
    """A stay goes on until a discharge is said; the null takes the discharge back; silence does neither, nor does another class."""
    talk = Talk(draw, Ward(draw))
    talk.open()
    minutes, discharged = 3900, None
    for number in range(draw.between(1, 4)):
        minutes -= draw.between(20, 300)
        what = draw.each(list(SILENT)) if number == 0 else draw.one_of([*SILENT, "discharged", "null"])
        message = talk.update("I13", minutes, _some(draw, ("RF1-2", "PID-13", "OBX LB-DOG"), 2))
        if what in SILENT:
            SILENT[what](message)
        else:
            discharged = None if what == "null" else f"2026-11-{draw.between(10, 28)}"
            message.fields["PV1"] = {1: "1", 45: discharged.replace("-", "") if discharged else NULL}
            if draw.chance():
                message.fields["PV1"][2] = "I"
        talk.send(message, what)
    event = {"referral.discharged_on": {"is": [discharged]}, "referral.hospital.admitted_on": {"is": ["2026-10-28"]}}
    return talk.made(event=event, hub=_at_hub(discharged is not None, event))


def _at_hub(ended: bool, event: Mapping[str, Any]) -> dict[str, Any]:
    """What the hub that holds the case is not asked for: after the stay nothing of it is shown."""
    hidden = ["referral.hospital.ward", "referral.hospital.pathway", *event, "referral.expected_discharge_on"]
    return dict.fromkeys(hidden) if ended else {}


# ---- K3: which referral, which message ----------------------------------------------------------------------------------


@kind("hl7v2-same-control-id")
def same_control_id(draw: Draw) -> Made:
    """A counter that begins again: the same MSH-10 with another time, trigger or content is another message; the same bytes are not."""
    talk = Talk(draw, Ward(draw))
    talk.open("RF1-2")
    minutes = 3900
    for _ in range(draw.between(1, 3)):
        minutes -= draw.between(2, 600)
        message = talk.update("I13", minutes, ("RF1-2", *_some(draw, ("PID-13", "PID-15"), 1)))
        message.control_id = talk.ward.control_id
        talk.send(message, talk.later)
        if draw.chance():
            talk.again(draw.between(0, len(talk.sent) - 1), "again")
    return talk.made(references="same")


@kind("hl7v2-triggered-again")
def triggered_again(draw: Draw) -> Made:
    """The same referral, sent or triggered again with another MSH-7 and MSH-10, is a repeat: nothing new is published."""
    talk = Talk(draw, Ward(draw))
    if draw.chance():
        talk.ward.fields["RF1"].pop(7)
    talk.open(*_some(draw, ALL, 4))
    for _ in range(draw.between(1, 2)):
        again = Ward.__new__(Ward)
        again.__dict__.update(talk.ward.__dict__)
        again.event = draw.one_of(["I12", "I13"])
        again.minutes_ago -= draw.between(1, 3000)
        if draw.chance():
            again.control_id = draw.code("M")
        talk.send(again, f"{again.event} again after {4000 - again.minutes_ago} minutes")
    published = {"has": ["referral.received"], "lacks": ["referral.updated", "referral.cancelled"]}
    return talk.made(event={"version": {"is": [1]}}, published=published, references="same")


@kind("hl7v2-numberings")
def numberings(draw: Draw) -> Made:
    """RF1-6 is an id of its assigning authority: the same number of another one is another referral, of another person."""
    first, second = Ward(draw), Ward(draw)
    one, other = draw.each(
        [("^UHL_EPR", "^UHL_TIE"), ("", "^UHL_TIE"), ("^^1.2.3^ISO", "^^1.2.4^ISO"), ("^UHL_EPR", "")]
    )
    first.fields["RF1"][6], second.fields["RF1"][6] = first.referral_id + one, first.referral_id + other
    second.event = draw.one_of(["I12", "I13"])
    second.minutes_ago = first.minutes_ago - draw.between(1, 500)
    talk = Talk(draw, first)
    talk.send(first, f"new of {one or 'no authority'}")
    talk.send(second, f"{second.event} of {other or 'no authority'}")
    event = {"referral.person.family_name": {"is": [first.family]}, "version": {"is": [1]}}
    return talk.made(event=event, references="different")


@kind("hl7v2-another-person")
def another_person(draw: Draw) -> Made:
    """An update about somebody else is acknowledged, not applied, and given to a person; a correction is applied."""
    talk = Talk(draw, Ward(draw))
    talk.open()
    number, born, family = draw.each([(n, b, f) for n in "=+-" for b in (False, True) for f in (False, True)])
    message = talk.ward.later("I13", 3000, RF1={2: "URGENT"})
    message.precision = "second"
    ids = {
        "=": f"{talk.ward.number}^^^^NHS",
        "+": f"{draw.nhs_number()}^^^^NHS",
        "-": f"{talk.ward.hospital_number}^^^UHL^MRN",
    }
    message.fields["PID"] |= {3: ids[number]}
    name = draw.word() if family else talk.ward.family
    message.fields["PID"][5] = f"{name}^Iris^^^MRS^^L"
    if born:
        message.fields["PID"][7] = "19330102"
    contradicts = (number == "+" and (born or family)) or (number == "-" and born and family)
    talk.send(message, f"number {number}, born {'+' if born else '='}, family {'+' if family else '='}")
    if not contradicts:
        event = {"referral.priority": {"is": ["urgent"]}, "referral.person.family_name": {"is": [name]}}
        return talk.made(event=event, published={"has": ["referral.updated"], "lacks": ["referral.update-not-applied"]})
    event = {"referral.priority": {"is": ["routine"]}, "referral.person.family_name": {"is": [talk.ward.family]}}
    return talk.made(event=event, published={"has": ["referral.update-not-applied"], "lacks": ["referral.updated"]})


# ---- order of cancels, and what is refused ------------------------------------------------------------------------------


@kind("hl7v2-cancel")
def cancel(draw: Draw) -> Made:
    """A cancel applies, by a slow clock too; one that is older than an update does not; nothing is applied after it."""
    talk = Talk(draw, Ward(draw))
    what = draw.each(["newer", "older than the first", "older than an update", "withdrawn, older than an update"])
    talk.open("RF1-2")
    if "update" in what:
        talk.send(talk.update("I13", 3000, ("RF1-2",)), "update")
    minutes = {"newer": 2900, "older than the first": 4400}.get(what, 3500)
    taken_back = talk.ward.later("I14", minutes)
    taken_back.precision = "second"
    if what.startswith("withdrawn"):
        taken_back.fields["RF1"][10] = "WITHDRAWN"
    talk.send(taken_back, f"cancel {what}")
    if what == "older than an update":
        return talk.made(published={"has": ["referral.cancellation-not-applied"], "lacks": ["referral.cancelled"]})
    late = Ward.__new__(Ward)
    late.__dict__.update(talk.ward.__dict__)
    late.event, late.minutes_ago, late.control_id = draw.one_of(["I12", "I13"]), 2500, draw.code("M")
    late.fields = {**talk.ward.fields, "RF1": {**talk.ward.fields["RF1"], 2: "S"}}
    talk.send(late, f"{late.event} after the cancel", "AE")
    answer = {"has": ["|207^"], "mentions": ["cancelled"]}
    return talk.made(published={"has": ["referral.cancelled"]}, answer=answer)


REFUSED: dict[str, tuple[Callable[[Ward], Any], str, str]] = {
    "no name and no identifier": (lambda ward: ward.fields["PID"].update({3: "", 5: ""}), "AE", "|"),
    "no referral id": (lambda ward: ward.fields["RF1"].update({6: ""}), "AE", "RF1^1^6"),
    "a test message": (lambda ward: ward.header.update({11: "T"}), "AR", "|202^"),
    "a debugging message": (lambda ward: ward.header.update({11: "D"}), "AR", "|202^"),
    "a cancel of nothing": (lambda ward: setattr(ward, "event", "I14"), "AE", "|204^"),
    "consent refused": (
        lambda ward: setattr(ward, "observations", ["OBX|1|CE|LB-CONSENT||N^No||||||F"]),
        "AE",
        "|207^",
    ),
    "a sender that is not agreed": (lambda ward: ward.header.update({3: "SOMEBODY"}), "AE", "|"),
    "another message type": (lambda ward: setattr(ward, "event", "I15"), "AR", "|201^"),
}


@kind("hl7v2-refused")
def refused(draw: Draw) -> Made:
    """The few reasons for which a message is refused, whatever else it says."""
    talk = Talk(draw, Ward(draw))
    what = draw.each(list(REFUSED))
    change, code, error = REFUSED[what]
    change(talk.ward)
    talk.send(talk.ward, what, code)
    return (
        what,
        talk.sent,
        [{"answers": [[code] if "|2" in error else ["AE", "AR"]], "answer": {"has": [error]}, "published": "nothing"}],
    )


# ---- a stay by ADT ------------------------------------------------------------------------------------------------------


@kind("hl7v2-adt")
def adt(draw: Draw) -> Made:
    """ADT of the visit moves, corrects, ends and reopens the stay; each unit has what the latest message said of it."""
    talk = Talk(draw, Ward(draw))
    talk.open(*_some(draw, ADT_PLACES, 2))
    minutes, ends = 3900, {"PV1-45": (4000, None)}
    updates = []
    for number in range(draw.between(1, 5)):
        minutes -= draw.between(5, 300)
        event = (
            draw.each(["A01", "A02", "A03", "A08", "A13"])
            if number == 0
            else draw.one_of(["A02", "A08", "A03", "A13", "A31"])
        )
        pv1 = {1: "1", 2: "I", 19: talk.ward.visit, 44: "20261028"}
        places = {"A02": ("PV1-3",), "A01": ("PV1-3",), "A08": _some(draw, ADT_PLACES, 3), "A31": ("PID-13",)}.get(
            event, ()
        )
        if event == "A03":
            day = draw.between(10, 28)
            pv1 |= {36: "19", 45: f"202611{day}1400"}
            ends["PV1-45"] = minutes, f"2026-11-{day}"
        if event == "A13":
            ends["PV1-45"] = minutes, None
        message = talk.update(event, minutes, places, event, PV1=pv1)
        updates.append((message, f"{event} of {minutes} with {' '.join(places)}"))
    for message, step in draw.shuffled(updates) if draw.chance() else updates:
        talk.send(message, step)
    discharged = ends["PV1-45"][1]
    event = {"referral.discharged_on": {"is": [discharged]}}
    return talk.made(event=event, hub=_at_hub(discharged is not None, event))


@kind("hl7v2-adt-of-others")
def adt_of_others(draw: Draw) -> Made:
    """ADT of another visit, or of somebody who was never referred, changes nothing, and is acknowledged."""
    stays = draw.each([True, False])
    talk = Talk(draw, Ward(draw, stays=stays))
    talk.open()
    other = Ward(draw)
    for _ in range(draw.between(1, 3)):
        event = draw.one_of(["A01", "A02", "A03", "A08", "A11", "A13", "A31"])
        who = draw.one_of(["a stranger", "the NHS number alone"])
        ids = f"{other.hospital_number}^^^UHL^MRN~{talk.ward.number if who != 'a stranger' else other.number}^^^^NHS"
        pv1 = {
            1: "1",
            2: "I",
            3: "WARD 9^^^LRI",
            19: other.visit,
            44: "20261119",
            **({45: "20261120"} if event == "A03" else {}),
        }
        message = talk.ward.later(event, draw.between(10, 3000), PID={3: ids}, PV1=pv1)
        talk.send(message, f"{event} of {who}")
    lacks = ["referral.updated", "referral.cancelled"]
    event: dict[str, Any] = {"version": {"is": [1]}, "referral.discharged_on": {"is": [None]}}
    if not stays:
        event["referral.hospital.ward"] = {"is": [None]}
    return talk.made(event=event, published={"has": ["referral.received"], "lacks": lacks})
