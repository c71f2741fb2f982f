"""Kinds of conversations: new, update and cancel as BaRS has them, with clocks, ids, persons and practices that differ."""

import copy
from dataclasses import dataclass, field
from typing import Any

from tests.field.variants import FIRST_REFERENCE, REFUSED, Made, Sent, kind
from tests.field.variants.draw import Draw
from tests.field.variants.message import NHS_NUMBER, Message, status_extension

CODES = [200, 201, 202]
OUR_REFERENCE = "https://lightbulb.example.org/Id/referral-reference"


@dataclass
class Conversation:
    """Messages of one referral, and what is right for each."""

    draw: Draw
    message: Message
    sent: list[Sent] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def send(self, message: Message, step: str, *codes: int, **headers: str | None) -> Sent:
        self.sent.append(message.sent(**headers))
        return self.again(step, *codes)

    def again(self, step: str, *codes: int) -> Sent:
        """Expect these codes for the message that was sent last."""
        self.answers.append(list(codes))
        self.steps.append(step)
        return self.sent[-1]

    def made(self, **right: Any) -> Made:
        return ", ".join(self.steps), self.sent, [{"answers": self.answers, **right}]


# ---- 2: BaRS' own sequences -----------------------------------------------------------------------------------------------

NAMINGS = ("our id", "our reference", "its id", "its identifier", "Bundle.id")


def _named(first: Message, later: Message, naming: str) -> None:
    """Name the referral of the first message in a later one in one way only."""
    draw, request = later.draw, later.request
    known = request["id"]
    for name in ("id", "identifier"):
        request.pop(name, None)
    if naming == "our id":
        request["id"] = FIRST_REFERENCE
    elif naming == "our reference":
        request["identifier"] = [{"system": OUR_REFERENCE, "value": FIRST_REFERENCE}]
    elif naming == "its id":
        request["id"] = known
    elif naming == "its identifier":
        request["identifier"] = copy.deepcopy(first.request["identifier"])
    elif naming == "Bundle.id":
        later.bundle_id = first.bundle_id
    url = first.focus_url if naming == "its fullUrl" else f"urn:uuid:{draw.uuid()}"
    later.focus_at(url)


@kind("bars-sequence")
def bars_sequence(draw: Draw) -> Made:
    """Updates and a cancel reach the referral by any of its names, with Bundle.id kept or new, and repeats change nothing."""
    first = Message(draw)
    first.request["identifier"] = [{"system": "https://a-gp-system.example.com/requests", "value": draw.uuid()}]
    talk = Conversation(draw, first)
    talk.send(first, "new", 200)
    phone, last, kept = "", first, draw.chance()
    for number in range(draw.between(1, 3)):
        naming = draw.each(NAMINGS) if number == 0 else draw.one_of(NAMINGS)
        last = _later(first, naming, number + 1, kept=kept)
        phone = draw.phone() + str(number)
        last.patient["telecom"][0]["value"] = phone
        sent = talk.send(last, f"update by {naming}", 200)
        if draw.chance():
            talk.sent.append(sent)
            talk.again("the same again", 409)
    published, event = ["referral.received", "referral.updated"], {"referral.person.phone": {"is": [phone]}}
    if draw.chance():
        naming = draw.one_of(NAMINGS)
        cancel = _later(first, naming, 5, kept=kept).cancelled(reason=draw.one_of(["update", "delete"]))
        talk.send(cancel, f"cancel by {naming}", 200)
        return talk.made(published={"has": [*published, "referral.cancelled"]}, event=event)
    return talk.made(published={"has": published, "lacks": ["referral.cancelled"]}, event=event)


def _later(first: Message, naming: str, minutes: int, *, kept: bool) -> Message:
    later = first.later(minutes)
    if kept:
        later.bundle_id = first.bundle_id
    _named(first, later, naming)
    return later


@kind("bars-new-without-id")
def bars_new_without_id(draw: Draw) -> Made:
    """A new request without an id, as in the NHS samples, is updated and cancelled by the id that the answer gave."""
    first = Message(draw)
    first.focus_at(f"urn:uuid:{first.request.pop('id')}" if draw.chance() else f"urn:uuid:{draw.uuid()}")
    first.request.pop("id", None)
    talk = Conversation(draw, first)
    talk.send(first, "new", 200)
    update = first.later(2)
    naming = draw.each(["our id", "our reference", "Bundle.id", "its fullUrl"])
    _named(first, _with_id(update), naming)
    phone = draw.phone()
    update.patient["telecom"][0]["value"] = phone
    talk.send(update, f"update by {naming}", 200)
    return talk.made(references="same", event={"referral.person.phone": {"is": [phone]}, "version": {"is": [2]}})


def _with_id(message: Message) -> Message:
    message.request["id"] = "none"
    return message


@kind("conflict")
def conflict(draw: Draw) -> Made:
    """A second new message under the ids of the first is a duplicate or a conflict, and changes nothing."""
    first = Message(draw)
    second = first.later(2, reason="new")
    same_bundle, other = draw.each([(True, True), (True, False), (False, True), (False, False)])
    if same_bundle:
        second.bundle_id = first.bundle_id
    if other:
        second.patient["telecom"][0]["value"] = draw.phone() + "9"
    talk = Conversation(draw, first)
    talk.send(first, "new", 200)
    talk.send(second, f"new, {'other' if other else 'same'} content, Bundle.id {'kept' if same_bundle else 'new'}", 409)
    event = {"version": {"is": [1]}, "referral.person.phone": {"is": [first.patient["telecom"][0]["value"]]}}
    return talk.made(event=event, published={"has": ["referral.received"], "lacks": ["referral.updated"]})


@kind("two-patients-one-url")
def two_patients_one_url(draw: Draw) -> Made:
    """Two referrals under one constant fullUrl, as all samples have, are two."""
    constant = f"urn:uuid:{draw.uuid()}"
    has_id, has_identifier = draw.each([(a, b) for a in (True, False) for b in (True, False)])
    talk = Conversation(draw, Message(draw))
    for step in ("new", "new of another person"):
        message = Message(draw)
        if not has_id:
            message.request.pop("id")
        if has_identifier:
            message.request["identifier"] = [{"system": "https://a-gp-system.example.com/r", "value": draw.uuid()}]
        message.focus_at(constant)
        talk.send(message, f"{step}, id {has_id}, identifier {has_identifier}", 200)
    return talk.made(references="different", event={"version": {"is": [1]}})


# ---- 3: another patient ---------------------------------------------------------------------------------------------------


@kind("another-patient")
def another_patient(draw: Draw) -> Made:
    """An update or cancel whose person contradicts the referral's is refused; anything less is a correction."""
    first = Message(draw)
    number, birth, family, cancels = draw.each(
        [(n, b, f, c) for n in ("same", "other", "none") for b in (0, 1) for f in (0, 1) for c in (0, 1)]
    )
    talk = Conversation(draw, first)
    talk.send(first, "new", 200)
    later = first.later(2)
    _differ(draw, later.patient, number, bool(birth), bool(family))
    if cancels:
        later.cancelled(draw.one_of(["revoked", "entered-in-error"]))
    contradicts = (number == "other" and (birth or family)) or (number == "none" and birth and family)
    codes = REFUSED if contradicts else [200]
    differs = [name for name, is_so in (("birth date", birth), ("family name", family)) if is_so]
    talk.send(later, f"{'cancel' if cancels else 'update'}: {number} number, {differs}", *codes)
    if contradicts:
        unchanged = {"version": {"is": [1]}, "referral.person.family_name": {"is": [first.family]}}
        return talk.made(event=unchanged, published={"lacks": ["referral.updated", "referral.cancelled"]})
    return talk.made(published={"has": ["referral.cancelled" if cancels else "referral.updated"]}, references="same")


def _differ(draw: Draw, patient: dict[str, Any], number: str, birth: bool, family: bool) -> None:
    if number == "other":
        patient["identifier"] = [{"extension": [status_extension()], "system": NHS_NUMBER, "value": draw.nhs_number()}]
    elif number == "none":
        patient["identifier"] = [{"system": "https://a-gp-system.example.com/patients", "value": draw.uuid()}]
    if birth:
        patient["birthDate"] = "2001-01-31"
    if family:
        patient["name"] = [{"use": "official", "family": draw.word(), "given": ["Iris"]}]


@kind("cancel-without-patient")
def cancel_without_patient(draw: Draw) -> Made:
    """A cancel need not say more of the patient than a reference, and nothing contradicts."""
    first = Message(draw)
    talk = Conversation(draw, first)
    talk.send(first, "new", 200)
    cancel = first.later(2).cancelled()
    kept = draw.one_of([("name", "birthDate"), ("identifier",), ("name",), ()])
    patient = {name: value for name, value in cancel.patient.items() if name in ("resourceType", "id", *kept)}
    cancel.resources = [patient if one is cancel.patient else one for one in cancel.resources]
    talk.send(cancel, f"cancel with {kept} of the patient", 200)
    return talk.made(published={"has": ["referral.cancelled"]})


# ---- 4: two practices ---------------------------------------------------------------------------------------------------


@kind("two-practices-one-id")
def two_practices_one_id(draw: Draw) -> Made:
    """Under a partner that speaks for many, an id of one practice never names the referral of another."""
    shared = draw.uuid()
    one, other = (Message(draw, "first-contact", ods) for ods in draw.shuffled(["C82991", "C82993"]))
    same = draw.each(["id", "identifier", "fullUrl", "Bundle.id"])
    for message in (one, other):
        _share(message, same, shared)
    talk = Conversation(draw, one)
    talk.send(one, f"new with {same}", 200)
    step = draw.each(["new", "update", "cancel"])
    if step == "new":
        talk.send(other, "new of another practice", 200)
        return talk.made(references="different", event={"version": {"is": [1]}})
    other.sent_at = other.draw.at(minutes=8)
    later = other.reason("update") if step == "update" else other.cancelled()
    talk.send(later, f"{step} of another practice", *([200] if step == "update" else [404]))
    lacks = {"lacks": ["referral.updated", "referral.cancelled"]}
    event = {"version": {"is": [1]}, "referral.person.family_name": {"is": [one.family]}}
    return talk.made(published=lacks, event=event)


def _share(message: Message, name: str, shared: str) -> None:
    request = message.request
    url = f"urn:uuid:{shared}" if name == "fullUrl" else f"urn:uuid:{message.draw.uuid()}"
    request.pop("id")
    if name == "id":
        request["id"] = shared
    elif name == "identifier":
        request["identifier"] = [{"system": "https://a-gp-system.example.com/requests", "value": shared}]
    elif name == "Bundle.id":
        message.bundle_id = shared
    message.focus_at(url)


# ---- 11: clocks -----------------------------------------------------------------------------------------------------------


@kind("clocks")
def clocks(draw: Draw) -> Made:
    """A cancel by a slow clock is applied; one older than an update is left to a person, and says so; the future is refused."""
    first = Message(draw)
    talk = Conversation(draw, first)
    what = draw.each(
        ["slow cancel", "cancel before an update", "future cancel", "future new", "old update", "near future"]
    )
    if what in ("future new", "near future"):
        return _from_the_future(draw, talk, soon=what == "near future")
    talk.send(first, "new", 200)
    if what == "future cancel":
        cancel = first.later(10 + draw.between(6, 9000)).cancelled()
        talk.send(cancel, what, *REFUSED)
        return talk.made(published={"has": ["referral.received"], "lacks": ["referral.cancelled"]})
    if what == "slow cancel":
        cancel = first.later(-draw.between(1, 3000)).cancelled()
        talk.send(cancel, what, 200)
        return talk.made(published={"has": ["referral.cancelled"]})
    update = first.later(6)
    phone = update.patient["telecom"][0]["value"] = draw.phone() + "7"
    talk.send(update, "update", 200)
    older = first.later(3)
    older.patient["telecom"][0]["value"] = draw.phone() + "8"
    if what == "old update":
        talk.send(older, what, 200, 202)
        return talk.made(event={"referral.person.phone": {"is": [phone]}, "version": {"is": [2]}})
    talk.send(older.cancelled(), what, 202)
    published = {"has": ["referral.cancellation-not-applied"], "lacks": ["referral.cancelled"]}
    return talk.made(published=published, answer={"mentions": ["not applied"]})


def _from_the_future(draw: Draw, talk: Conversation, *, soon: bool) -> Made:
    talk.message.sent_at = draw.at(seconds=-draw.between(20, 200)) if soon else draw.at(minutes=-draw.between(6, 9999))
    if soon:
        talk.send(talk.message, "new, by a clock that is a little fast", 200)
        return talk.made(event={"version": {"is": [1]}})
    talk.send(talk.message, "new from the future", *REFUSED)
    return talk.made(published="nothing")
