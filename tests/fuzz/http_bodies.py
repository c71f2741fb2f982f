"""What is sent to each way in over HTTP: anything, and what real senders send with something wrong in it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.builders.bars import a_bars_message
from tests.builders.csv import COUNCILS, a_file, a_row
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_ref_i12

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Draw = st.DrawFn


@dataclass(frozen=True)
class Way:
    """A way in over HTTP: who sends what there, and bodies of every kind."""

    name: str
    path: str
    sender: str
    media_type: str
    bodies: st.SearchStrategy[bytes]
    is_file: bool = False


# ---- anything -------------------------------------------------------------------------------------------------------


def one_of_these(samples: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Any of these, which may be large: hypothesis writes out what it is told to sample from."""
    return st.integers(0, len(samples) - 1).map(lambda at: samples[at])


EVIL = one_of_these(
    [
        "\x00",
        "\ud800",
        "\udfff\ud800",
        "\u202e",
        "\ufeff",
        "",
        " ",
        "\r\n",
        "CANARY",
        "999 000 0018",
        "A" * 70_000,
        "=1+1",
    ]
)
NUMBERS = one_of_these([10**30, -(10**30), 2**63, 1e308, -0.0, 5e-324, 10**4_000, 1e22, True, None])

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | EVIL | NUMBERS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=15) | EVIL, inner, max_size=5),
    max_leaves=30,
)

anything = st.binary(max_size=2_000) | values.map(lambda value: json.dumps(value).encode())


# ---- JSON with something wrong in it --------------------------------------------------------------------------------


@st.composite
def wrong_json(draw: Draw, samples: list[bytes]) -> bytes:
    """A good message with up to four places changed, written in a way that may be wrong."""
    message = json.loads(draw(one_of_these(samples)))
    for _ in range(draw(st.integers(0, 4))):
        _change(draw, message)
    return draw(one_of_these(WRITINGS))(json.dumps(message, ensure_ascii=draw(st.booleans())))


def _change(draw: Draw, message: Any) -> None:
    places: list[tuple[Any, Any]] = []
    _places(message, places)
    if not places:
        return
    holder, name = places[draw(st.integers(0, len(places) - 1))]
    match draw(st.sampled_from(["delete", "replace", "move", "repeat", "nest", "rename"])):
        case "delete":
            del holder[name]
        case "replace":
            holder[name] = draw(values)
        case "move":
            other, place = places[draw(st.integers(0, len(places) - 1))]
            holder[name] = json.loads(json.dumps(other[place]))
        case "repeat":
            holder[name] = [holder[name]] * draw(st.sampled_from([2, 60, 1_001]))
        case "nest":
            for _ in range(draw(st.sampled_from([1, 30, 90, 150]))):
                holder[name] = {"extension": [holder[name]]} if draw(st.booleans()) else [holder[name]]
        case "rename" if isinstance(holder, dict):
            holder[draw(st.text(max_size=60) | EVIL)] = holder.pop(name)


def _places(here: Any, found: list[tuple[Any, Any]]) -> None:
    for name in list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ():
        found.append((here, name))
        _places(here[name], found)


def _encoded(codec: str) -> Callable[[str], bytes]:
    return lambda written: written.encode(codec, "surrogatepass" if codec.startswith("utf") else "replace")


WRITINGS: list[Callable[[str], bytes]] = [
    *[_encoded("utf-8")] * 6,
    *map(_encoded, ("utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252")),
    lambda written: _encoded("utf-8")(written)[: len(written) // 2],
    lambda written: _encoded("utf-8")(written) * 2,
    lambda written: _encoded("utf-8")(written.replace(":", ": NaN,", 1)),
    lambda written: _encoded("utf-8")(written[:-1] + ', "id": 1, "reference": 2, "id": null}'),
    lambda written: b"[" * 300 + _encoded("utf-8")(written) + b"]" * 300,
    lambda written: _encoded("utf-8")(written.replace("20", "1" * 5_000, 1)),
]


# ---- text with something wrong in it --------------------------------------------------------------------------------

MARKS = [
    b"|",
    b"^",
    b"~",
    b"\\",
    b"&",
    b"\r",
    b"\n",
    b'"',
    b",",
    b";",
    b"\x00",
    b"\xff\xfe",
    b"\xe2\x82",
    b"\x0b",
    b"\x1c\r",
]
MARKS += [
    b"MSH|^~\\&|",
    b"\rPID|1||",
    b"=cmd|' /C calc'!A0",
    b"9" * 40,
    b"A" * 9_000,
    b"\xef\xbb\xbf",
    b"\\X0D\\",
    b"\\.br\\",
]


@st.composite
def wrong_text(draw: Draw, samples: list[bytes]) -> bytes:
    """A good message or file with up to six pieces cut out, put in or repeated."""
    body = draw(one_of_these(samples))
    for _ in range(draw(st.integers(0, 6))):
        at, length = draw(st.integers(0, len(body))), draw(st.integers(0, 40))
        put = draw(one_of_these(MARKS) | st.binary(max_size=30))
        times = draw(st.sampled_from([1, 1, 1, 2, 1_500 if len(put) < 5 else 1]))
        piece = body[at : at + length] if draw(st.integers(0, 5)) == 0 else put
        body = body[:at] + piece * times + body[at + length * draw(st.booleans()) :]
    return body


# ---- the ways in ----------------------------------------------------------------------------------------------------


def _sent() -> dict[str, list[tuple[str, bytes]]]:
    """What the examples send: by the kind of file, with its sender."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    for expected in sorted(EXAMPLES.glob("*.expected.yaml")):
        for step in yaml.safe_load(expected.read_text())["steps"]:
            if "send" in step and "by" in step:
                path = EXAMPLES / step["send"]
                found.setdefault(path.suffix, []).append((step["by"], path.read_bytes()))
    return found


def _canary() -> list[bytes]:
    whole = [a_bars_message(family="CANARYBARS", seed="1"), a_bars_message(reason="update", seed="2", status="revoked")]
    return [json.dumps(message).encode() for message in whole]


@cache
def ways() -> list[Way]:
    """Every way in over HTTP that takes a message."""
    sent = _sent()
    bars = [body for _, body in sent[".json"] if b'"Bundle"' in body]
    return [
        Way("bars", "/fhir/$process-message", "gp-alder-lane", "application/fhir+json", _json([*bars, *_canary()])),
        *(_form(name, sender, [*(body for by, body in sent[".json"] if by == sender)]) for name, sender in FORMS),
        Way("hl7v2", "/hl7v2", "uhl", "application/hl7-v2", _text([*(b for _, b in sent[".hl7"]), _ward()])),
        *(
            _council(name, [body for by, body in sent[".csv"] if by == mapping.partner])
            for name, mapping in COUNCILS.items()
        ),
    ]


FORMS = [
    ("first-contact-plus", "first-contact"),
    ("customer-service", "customer-service"),
    ("neighbourhood", "neighbourhood-teams"),
    ("self", "lightbulb-website"),
    ("hospital-discharge", "lpt"),
    ("coordinator", "hub-charnwood"),
]


def _form(name: str, sender: str, examples: list[bytes]) -> Way:
    filled = json.dumps(a_form(reference="1", family_name="CANARYFORM")).encode()
    flat = [body for body in examples if b'"Bundle"' not in body and body.lstrip().startswith(b"{")]
    return Way(f"form {name}", f"/forms/{name}", sender, "application/json", _json([*flat, filled]))


def _council(name: str, examples: list[bytes]) -> Way:
    whole = a_file(name, [a_row(name), a_row(name)])
    path = f"/councils/{name}/referrals"
    return Way(f"file {name}", path, COUNCILS[name].partner, "text/csv", _text([*examples, whole]), is_file=True)


def _ward() -> bytes:
    return a_ref_i12(id="1", referral_id="1", name="CANARYWARD^ADA^^^MRS")


def _json(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    good = [body for body in samples if _is_json(body)]
    return wrong_json(good) | wrong_json(good) | wrong_text(samples) | anything


def _text(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    return wrong_text(samples) | wrong_text(samples) | anything


def _is_json(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False
