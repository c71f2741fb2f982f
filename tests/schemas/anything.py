"""Any object of the published language, for hypothesis: read from the models, so a new field is covered on the day it comes."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import AfterValidator, AwareDatetime, BaseModel, StringConstraints, TypeAdapter
from pydantic.fields import FieldInfo

from schemas.events import Event, EventData
from schemas.model import PersonKey
from schemas.referral import HousingNeed

M = TypeVar("M", bound=BaseModel)

WRITABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
"""What PostgreSQL and UTF-8 can hold: intake refuses the rest."""

WEIGHTS = range(10, 1, -1)


def check_digit(nine: str) -> int | None:
    """Modulus 11, written from the NHS Data Dictionary and not from the package: none where it would be 10."""
    digit = 11 - sum(int(figure) * weight for figure, weight in zip(nine, WEIGHTS, strict=True)) % 11
    return {11: 0, 10: None}.get(digit, digit)


def an_nhs_number(prefix: str = "999") -> SearchStrategy[str]:
    """Any valid synthetic number: 999 is never given to a person."""
    rest = st.text("0123456789", min_size=9 - len(prefix), max_size=9 - len(prefix))
    numbers = rest.map(prefix.__add__).filter(lambda nine: check_digit(nine) is not None).map(_with_check_digit)
    return numbers.filter(lambda number: len(set(number)) > 1)


def _with_check_digit(nine: str) -> str:
    return f"{nine}{check_digit(nine)}"


def any_of(model: type[M]) -> SearchStrategy[M]:
    """Any valid object of a model; fields that have a default are now and then left out."""
    made: SearchStrategy[M] = _made(model)
    return made


@cache
def _made(model: type[BaseModel]) -> SearchStrategy[Any]:
    fields = {name: _of_field(field) for name, field in model.model_fields.items()}
    wanted = {name: fields[name] for name, field in model.model_fields.items() if field.is_required()}
    free = {name: strategy for name, strategy in fields.items() if name not in wanted}
    return st.fixed_dictionaries(wanted, optional=free).map(lambda values: model(**values))


@cache
def any_event(data_type: type[EventData]) -> SearchStrategy[Event]:
    """Any event or command of one type, with any attributes."""
    return any_of(data_type).flatmap(an_event_with)


def an_event_with(data: EventData) -> SearchStrategy[Event]:
    """This data, with any attributes."""
    return st.fixed_dictionaries(dict(ATTRIBUTES)).map(lambda attributes: Event(data=data, **attributes))


def _of_field(field: FieldInfo) -> SearchStrategy[Any]:
    return _of(field.annotation, tuple(field.metadata))


def _of(kind: Any, constraints: tuple[Any, ...] = ()) -> SearchStrategy[Any]:
    """Any value of an annotation."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _of(inner[0], (*_flat(inner[1:]), *constraints))
    if origin in (Union, UnionType):
        return st.one_of([_of(choice) for choice in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple:
        return _tuple(inner[0], _limits(constraints))
    if isinstance(kind, NewType) and kind not in SIMPLE:
        return _of(kind.__supertype__, constraints)
    return _plain(kind, constraints)


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    """What stands in a Field inside an annotation, beside what stands there itself."""
    return [one for each in metadata for one in (each.metadata if isinstance(each, FieldInfo) else [each])]


def _plain(kind: Any, constraints: tuple[Any, ...]) -> SearchStrategy[Any]:
    if kind is str:
        return _text(constraints)
    if kind is int:  # versions, sizes, sequences: none of ours is below nought
        limits = _limits(constraints)
        return st.integers(limits.get("ge", 0), limits.get("le", 2**31))
    if kind in SIMPLE:
        return SIMPLE[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return any_of(kind)
    raise NotImplementedError(f"teach tests/schemas/anything.py how to make any {kind}")


SIMPLE: Mapping[Any, SearchStrategy[Any]] = {
    PersonKey: st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    bool: st.booleans(),
    NoneType: st.none(),
    date: st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    datetime: st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    AwareDatetime: st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
}


def _text(constraints: tuple[Any, ...]) -> SearchStrategy[str]:
    if any(isinstance(constraint, AfterValidator) for constraint in constraints):
        return an_nhs_number()
    stated = [constraint for constraint in constraints if isinstance(constraint, StringConstraints)]
    pattern = next((c.pattern for c in (*stated, *constraints) if getattr(c, "pattern", None)), None)
    if isinstance(pattern, str):
        return st.from_regex(pattern.removesuffix("$") + r"\Z", alphabet=st.characters(max_codepoint=127))
    if not stated:
        return st.text(WRITABLE, max_size=40)
    checked: TypeAdapter[str] = TypeAdapter(Annotated[str, *stated])
    return st.text(WRITABLE, min_size=1, max_size=40).filter(str.strip).map(checked.validate_python)


def _limits(constraints: tuple[Any, ...]) -> dict[str, int]:
    """Bounds, by the names that annotated_types gives them."""
    found: dict[str, int] = {}
    for constraint in constraints:
        for name in BOUNDS.get(type(constraint), ()):
            found[name] = getattr(constraint, name)
    return found


BOUNDS = {Ge: ("ge",), Le: ("le",), Gt: ("gt",), Lt: ("lt",), MinLen: ("min_length",), MaxLen: ("max_length",)}


def _tuple(kind: Any, limits: dict[str, int]) -> SearchStrategy[tuple[Any, ...]]:
    """Up to three, which is as good as many. A referral names each service once."""
    fewest = limits.get("min_length", 0)
    unique = (lambda need: need.service) if kind is HousingNeed else None
    return st.lists(_of(kind), min_size=fewest, max_size=fewest + 2, unique_by=unique).map(tuple)


ATTRIBUTES = {name: _of_field(field) for name, field in Event.model_fields.items() if name != "data"}
