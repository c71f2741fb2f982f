"""Cases that are data: what is sent as whom, and what must be true of the answers, `referral.event` and the hubs' topics.

A file of such cases (fhir.yaml, hl7v2.yaml, csv.yaml, form.yaml) names for each

    why, source    why the product should do so, and where the input was met (public)
    sender         the partner that sends
    changes        what differs from the input `control`, by place: {consents.on: "2099-01-05"}; a list, if more than one input
                   is sent. Without it, the inputs are files that are named after the case
    ids            further ids of the inputs that must be new each time
    bare           true: without transaction ids
    path           the path of HTTP with its query, or a list with one for each input, if it is not the sender's usual one
    media_type     Content-Type, if it is not the usual one; with multipart/form-data the input is a file in it
    right          the expectation (see expectation.py)
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.harness.sinks import Entry
from tests.field import clients, expectation, http_bodies, installation
from tests.field.case import CASES, Wrong, case
from tests.field.expectation import Answer, Seen
from tests.field.fresh import Fresh
from tests.field.installation import Installation

HERE = Path(__file__).parent

Send = Callable[[Installation, bytes, str, str | None], Answer]
"""Sends a body as a sender, with a correlation id or without."""


@dataclass(frozen=True)
class Script:
    """One case of a file."""

    name: str
    why: str
    source: str
    sender: str
    files: Sequence[Path]
    right: Sequence[Mapping[str, Any]] = ()
    changes: Sequence[Mapping[str, Any]] = ()
    ids: Sequence[str] = ()
    bare: bool = False
    path: str | Sequence[str] = ""
    media_type: str = ""

    @property
    def paths(self) -> Sequence[str]:
        """The path of HTTP for each input."""
        usual = self.path or http_bodies.path_of(self.sender)
        return [usual] * len(self.files) if isinstance(usual, str) else usual

    @property
    def bodies(self) -> list[bytes]:
        """The content of each input, before its ids are replaced."""
        contents = [file.read_bytes() for file in self.files]
        return [changed(*one) for one in zip(contents, self.changes, strict=True)] if self.changes else contents


def scripts(kind: str) -> list[Script]:
    """The cases of `<kind>.yaml`, with the inputs in the folder `<kind>`."""
    read = yaml.safe_load((HERE / f"{kind}.yaml").read_text())
    return [_script(kind, slug, **said) for slug, said in read.items()]


def _script(kind: str, slug: str, *, changes: Any = (), **said: Any) -> Script:
    given = [changes] if isinstance(changes, Mapping) else changes
    files = inputs_of(HERE / kind, "control") * len(given) if given else inputs_of(HERE / kind, slug)
    return Script(f"{kind}/{slug}", files=files, changes=given, **said)


def script(name: str) -> Script:
    """One case by its name."""
    return next(one for one in scripts(name.partition("/")[0]) if one.name == name)


def inputs_of(folder: Path, slug: str) -> list[Path]:
    """The inputs of a case, in the order in which they are sent: NAME.json; NAME.1.json, NAME.2.json; NAME-1.hl7, NAME-2.hl7."""
    single = [file for file in folder.iterdir() if file.stem == slug]
    return single or sorted(file for file in folder.iterdir() if file.stem[:-2] == slug and file.stem[-1].isdigit())


def changed(content: bytes, changes: Mapping[str, Any]) -> bytes:
    """JSON with other values at these places, such as `entry.3.resource.birthDate`."""
    whole = json.loads(content)
    for path, value in changes.items():
        *above, last = (int(step) if step.isdigit() else step for step in path.split("."))
        reduce(getitem, above, whole)[last] = value
    return json.dumps(whole, indent=1).encode()


def register(kind: str, send: Send, judge: Callable[..., None] | None = None) -> None:
    """Register the cases of a file that are not functions of their own."""
    for script in scripts(kind):
        if script.name not in CASES:
            case(script.name)(partial(judge or judge_topics, script, send))


def judge_topics(script: Script, send: Send, addresses: Mapping[str, Any]) -> None:
    """Play a case; raise Wrong if no alternative of its expectation holds of the answers and topics."""
    _judge(script.right, play(script, send, installation.of(addresses)))


def judge_effects(script: Script, send: Send, addresses: Mapping[str, Any]) -> None:
    """Play a case; raise Wrong if no alternative holds of the answers, topics and feedback."""
    seen = play(script, send, installation.of(addresses))
    client = clients.Installation(dict(addresses))
    client.settle()
    right = [expectation.with_effects(one) for one in script.right]
    _judge(right, replace(seen, feedback=client.feedback_of_any(seen.reference)))


def judge_requests(script: Script, addresses: Mapping[str, Any]) -> None:
    """Play a case about a council's file or a form; no fault or warning may be there that it does not name."""
    inputs = iter(zip(script.files, script.paths, strict=True))

    def send(hub: Installation, body: bytes, sender: str, _: str | None) -> Answer:
        file, path = next(inputs)
        request = http_bodies.request(file, body, path, script.media_type)
        return hub.post(request.path, request.body, sender, {"Content-Type": request.media_type})

    seen = play(script, send, installation.of(addresses))
    client = clients.Installation(dict(addresses))
    client.settle()
    right = [expectation.with_effects(one) for one in expected(script)]
    _judge(right, replace(seen, feedback=client.feedback_of_any(seen.reference)))


def expected(script: Script) -> list[Mapping[str, Any]]:
    """The alternatives of a case about a council's file or a form, with no faults and warnings where none are named."""
    return [{"faults": {}, "warnings": {}, **one} for one in script.right]


def _judge(right: Sequence[Mapping[str, Any]], seen: Seen) -> None:
    problem = expectation.wrong(right, seen)
    if problem:
        raise Wrong(problem)


def play(script: Script, send: Send, hub: Installation) -> Seen:
    """Send the messages of a case, and give what was seen of it once everything has passed."""
    fresh, begin = Fresh(script.ids), len(hub.entries())
    conversation = None if script.bare else str(uuid.uuid4())
    answers = [send(hub, fresh.bytes(body), script.sender, conversation) for body in script.bodies]
    hub.settle(*(answer.reference for answer in answers if answer.is_positive and answer.reference))
    about = {answer.reference for answer in answers if answer.reference}
    since = hub.entries()[begin:]
    named = [entry for entry in since if fresh.is_in(entry.value.decode(), about)]
    cases = {entry.data["case_id"] for entry in named if "hub_version" in entry.data}
    entries = [entry for entry in since if entry in named or entry.data.get("case_id") in cases]
    return Seen(
        [Answer(answer.code, fresh.back(answer.text)) for answer in answers],
        [(_short(entry), _data(entry, fresh)) for entry in entries if entry.topic == "referral.event"],
        [(_hub(entry), _data(entry, fresh)) for entry in entries if "hub_version" in entry.data],
    )


def _short(entry: Entry) -> str:
    return entry.headers["ce_type"].removeprefix("uk.lightbulb.").removesuffix(".v1")


def _hub(entry: Entry) -> str:
    return entry.topic.removeprefix("hub.").removesuffix(".case")


def _data(entry: Entry, fresh: Fresh) -> Any:
    return json.loads(fresh.back(entry.value.decode()))
