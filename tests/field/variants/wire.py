"""Kinds of what stands below FHIR: JSON, numbers, texts, media types, headers."""

import re
from typing import Any

from tests.field.variants import Made, kind, refused, taken
from tests.field.variants.draw import Draw
from tests.field.variants.message import NHS_NUMBER, Message
from tests.field.variants.reading import read_as

# ---- 13: null in lists of primitives --------------------------------------------------------------------------------------

LISTS = [("Patient", "name.0", "given"), ("Patient", "name.0", "prefix"), ("Patient", "address.0", "line")]
LISTS += [
    ("Practitioner", "name.0", "given"),
    ("ServiceRequest", "", "instantiatesUri"),
    ("Patient", "name.0", "suffix"),
]


@kind("null-in-list")
def null_in_list(draw: Draw) -> Made:
    """In a list of primitives null stands where a value has only an extension, in anything that is read or checked."""
    message = Message(draw)
    resource_type, path, name = draw.each(LISTS)
    parent: Any = message.get(resource_type)
    for part in filter(None, path.split(".")):
        parent = parent[int(part)] if part.isdigit() else parent[part]
    absent = {
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}]
    }
    values = parent.get(name, ["https://example.org/some"])
    at = draw.between(0, len(values))
    parent[name] = [*values[:at], None, *values[at:]]
    parent[f"_{name}"] = [None] * at + [absent] + [None] * (len(values) - at)
    return f"{resource_type}.{path}.{name}[{at}]", [message.sent()], [read_as(message)]


# ---- 15: a name twice ---------------------------------------------------------------------------------------------------


@kind("name-twice")
def name_twice(draw: Draw) -> Made:
    """An object with one name twice is refused, at any depth, also if the name is escaped or the values are equal."""
    message = Message(draw)
    text = message.body.decode()
    names = list(re.finditer(r'"(\w+)": ("[^"]*"|true|\[\]|\{\})', text))
    found = draw.one_of(names)
    name, value = found[1], found[2]
    how = draw.each(["another value", "the same value", "an escaped name", "null", "in front"])
    again = {"another value": '"another"', "null": "null"}.get(how, value)
    written = f"\\u{ord(name[0]):04x}{name[1:]}" if how == "an escaped name" else name
    twice = f'"{written}": {again}, ' + found[0] if how == "in front" else f'{found[0]}, "{written}": {again}'
    body = text[: found.start()] + twice + text[found.end() :]
    return f"{name}: {how}", [message.sent(body.encode())], refused()


# ---- 17: large numbers --------------------------------------------------------------------------------------------------

NUMBERS = ["123456789012345678901234567890.5", "1e30", "0.1000000000000000000000000000001", "-99999999999999999999.99"]
PLACES = ["Encounter", "ServiceRequest", "Patient", "Observation"]


@kind("large-number")
def large_number(draw: Draw) -> Made:
    """A decimal of any size is FHIR, wherever it stands."""
    message = Message(draw)
    place, number = draw.each(PLACES), draw.each(NUMBERS)
    marker = "9.87654321"
    extension = {"url": "https://example.org/any", "valueDecimal": float(marker)}
    if place == "Observation":
        code = {"text": "Weight"}
        message.add("Observation", status="final", code=code, valueQuantity={"value": float(marker), "unit": "kg"})
    else:
        message.get(place)["extension"] = [*message.get(place).get("extension", []), extension]
    body = message.body.decode().replace(marker, number)
    return f"{number} in {place}", [message.sent(body.encode())], [read_as(message)]


# ---- 14: texts in other scripts -----------------------------------------------------------------------------------------

NAMES = {
    "Łukaszewicz": ["Lukaszewicz"],
    "Đorđević": ["Dordevic", "Djordjevic"],
    "Müller-Lüdenscheidt": ["Muller-Ludenscheidt", "Mueller-Luedenscheidt"],
    "O’Brien": ["O'Brien"],
    "D'Árcy": ["D'Arcy"],
    "Þórsdóttir": ["Thorsdottir"],
    "Æbelø": ["Aebelo", "Aebeloe"],
    "Güneş": ["Gunes"],
    "Ñuñez": ["Nunez"],
    "Œuvrard": ["Oeuvrard"],
    "Straßer": ["Strasser"],
    "Nguyễn": ["Nguyen"],
    "Щербакова": ["Shcherbakova"],
    "Νικολάου": ["Nikolaou", "Nikolaoy"],
    "王": ["Wang"],
}
"""Names, and how they are spelled in ASCII."""


@kind("name-in-any-script")
def name_in_any_script(draw: Draw) -> Made:
    """A name of any script reaches the hub letter by letter, and a letter's subject in full."""
    message = Message(draw, "gp-brook-street")
    family = draw.each(list(NAMES))
    message.patient["name"][0]["family"] = family
    right = taken({"referral.person.family_name": {"is": [family]}}, letter={"mentions": NAMES[family]})
    return family, [message.sent()], [right]


# ---- 18: transaction ids ------------------------------------------------------------------------------------------------


@kind("transaction-ids")
def transaction_ids(draw: Draw) -> Made:
    """Without X-Request-Id or X-Correlation-Id, or with one that is not a GUID, a message is refused; they are mirrored."""
    message = Message(draw)
    name = draw.each(["x-request-id", "x-correlation-id"])
    other = ({"x-request-id", "x-correlation-id"} - {name}).pop()
    value = draw.each([None, "", "1234", "{" + draw.uuid() + "}", draw.uuid().upper()])
    sent = message.sent(**{name.replace("-", "_"): value})
    if value and len(value) == 36:
        return f"{name} in capitals", [sent], [read_as(message) | {"mirrored": {name: value}}]
    right = refused()
    kept = {name_: value_ for name_, value_ in sent.headers.items() if name_ == other and value_}
    return f"{name} {value!r}", [sent], [{**right[0], "mirrored": kept}]


# ---- 20: HTTP and encodings ---------------------------------------------------------------------------------------------


@kind("http-and-encoding")
def http_and_encoding(draw: Draw) -> Made:
    """Accept, Content-Type, a byte order mark and older URLs are read by their standards."""
    message = Message(draw)
    what = draw.each(["bom", "older url", *ACCEPTED, *NOT_ACCEPTED])
    if what == "bom":
        return what, [message.sent(b"\xef\xbb\xbf" + message.body)], [read_as(message)]
    if what == "older url":
        host = draw.one_of(["https://fhir.nhs.net", "http://fhir.nhs.net", "http://fhir.nhs.uk"])
        message.patient["identifier"][0]["system"] = host + NHS_NUMBER.removeprefix("https://fhir.nhs.uk")
        return f"{host}", [message.sent()], [read_as(message)]
    sent = message.sent(accept=what)
    if what in ACCEPTED:
        return f"Accept: {what}", [sent], [read_as(message)]
    return f"Accept: {what}", [sent], [{"answers": [406], "published": "nothing"}]


ACCEPTED = [
    "",
    "application/fhir+json",
    "application/json;q=0.5, application/fhir+json; version=1.0.0",
    "text/html, application/fhir+json",
    "text/html, */*;q=0.1",
    "APPLICATION/FHIR+JSON",
    "application/fhir+xml, application/*;q=0.2",
]
NOT_ACCEPTED = ["text/html", "application/fhir+json;q=0", "application/fhir+xml, application/fhir+json; q=0.0"]
