"""What may happen to a JSON document on its way: fields added, values spoilt."""

import json
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

CANARY = "CANARY-9990000000-SMITH"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)

Place = tuple[str | int, ...]


def places(document: Any, here: Place = ()) -> list[Place]:
    """Every place in a document that holds something, from the outside in."""
    steps = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [place for step, inner in steps for place in [(*here, step), *places(inner, (*here, step))]]


def at(document: Any, place: Place) -> Any:
    for step in place:
        document = document[step]
    return document


def with_unknown_fields(document: Any, data: st.DataObject) -> Any:
    """The document with fields that nobody knows, in up to three of its objects."""
    objects = [place for place in [(), *places(document)] if isinstance(at(document, place), dict)]
    for place in data.draw(st.lists(st.sampled_from(objects), min_size=1, max_size=3)):
        at(document, place)[data.draw(st.sampled_from(["x_new", "xNew", "x-new"]))] = data.draw(JSON)
    return document


def with_canary(document: Any, data: st.DataObject) -> Any:
    """The document with one value replaced by one that must never be repeated."""
    place = data.draw(st.sampled_from(places(document)))
    spoilt = data.draw(st.sampled_from([CANARY, CANARY * 500, [CANARY], {CANARY: CANARY}, f"{CANARY}\n"]))
    at(document, place[:-1])[place[-1]] = spoilt
    return document


def refusal(model: type[BaseModel], document: Any) -> str:
    """All that is told where a model refuses a document: message, repr and the parts that we report. Nothing if it takes it."""
    try:
        model.model_validate_json(json.dumps(document))
    except ValidationError as refused:
        return f"{refused} {refused!r} {refused.errors(include_input=False)}"
    return ""
