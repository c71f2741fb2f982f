"""The R4B models of fhir.resources as msgspec structs: one conversion says that a message conforms, and is its tree.

A struct here extends the struct of models.py that reads its type, if there is one, by every other element, and forbids
unknown elements. **What it accepts, fhir.resources and models.py accept.** What it does not accept may still conform: it
is stricter where a rule would cost time (leap seconds, nulls, numbers in texts, unusual URLs, absent required values).
Structs are made when a type is first used, once for each process; `prepare` makes those of every referral.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import count
from operator import attrgetter
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, Optional, Union, cast, get_args, get_origin

import msgspec
from fhir.resources.R4B import get_fhir_model_class
from fhir_core.types import FhirBase
from msgspec import Meta, Struct, defstruct
from msgspec.structs import fields

from services.intake.translators.bars_fhir.models import (
    READ,
    AnyResource,
    Bundle,
    Code,
    Date,
    DateTime,
    DomainResource,
    Fhir,
    Id,
    Instant,
    PositiveInt,
    Resource,
    String,
    Uri,
)

_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_MONTH = f"{_YEAR}(-(0[1-9]|1[0-2]))?"
_DAY = (
    f"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|2000)-02-29)"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
_ZONE = r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"


def _text(pattern: str, min_length: int | None = None) -> Any:
    return Annotated[str, Meta(pattern=f"^{pattern}\\Z", min_length=min_length)]


_PRIMITIVES: dict[str, Any] = {
    "string": Annotated[str, Meta(min_length=1)],
    "markdown": Annotated[str, Meta(min_length=1)],
    "xhtml": str,
    "code": _text(r"[^\s]+( [^\s]+)*"),
    "id": _text(r"[A-Za-z0-9\-.]{1,64}"),
    "uri": str,
    "canonical": str,
    "url": _text(
        r"(https?://([A-Za-z0-9]+(-[A-Za-z0-9]+)*\.)*[A-Za-z][A-Za-z0-9]*(:[0-9]{1,4})?(/[A-Za-z0-9._~/?=&$|:%+-]*)?"
        r"|urn:(uuid|oid):[A-Za-z0-9.-]+|[A-Z][A-Za-z]*/[A-Za-z0-9.-]+)"
    ),
    "oid": _text(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+"),
    "uuid": _text(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    "base64Binary": _text(r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", min_length=1),
    "date": _text(f"({_DAY}|{_MONTH})"),
    "dateTime": _text(f"({_DAY}(T{_TIME}{_ZONE})?|{_MONTH})"),
    "instant": _text(f"{_DAY}T{_TIME}{_ZONE}"),
    "time": _text(_TIME),
    "boolean": bool,
    "integer": Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)],
    "unsignedInt": Annotated[int, Meta(ge=0, le=2**31 - 1)],
    "positiveInt": Annotated[int, Meta(ge=1, le=2**31 - 1)],
    "decimal": int | float,
}
"""The primitive types of FHIR, at least as strict as fhir.resources has them for a text that `is_plain`."""

_OURS: dict[str, Any] = {
    "string": String,
    "markdown": String,
    "code": Code,
    "id": Id,
    "uri": Uri,
    "canonical": Uri,
    "url": Uri,
    "base64Binary": String,
    "date": Date,
    "dateTime": DateTime,
    "instant": Instant,
    "time": String,
    "boolean": bool,
    "integer": int,
    "positiveInt": PositiveInt,
}
"""What models.py has for a primitive type, if not a Literal: the type above implies it, or it implies the type above."""

_WHITE_SPACE = [
    re.compile(one).search
    for one in (
        rb"\xc2[\x85\xa0]",
        rb"\xe1\x9a\x80",
        rb"\xe2\x80[\x80-\x8a\xa8\xa9\xaf]",
        rb"\xe2\x81\x9f",
        rb"\xe3\x80\x80",
    )
]
_ESCAPED = re.compile(rb"\\(?:[bf]|u(?:00[0189]|00a0|1680|20(?:0|2[89f]|5f)|3000))", re.IGNORECASE).search


def is_plain(body: bytes) -> bool:
    """Return whether a JSON text has no white space but blanks, tabs and line ends, and no control characters.

    fhir.resources refuses a string of nothing but other white space; plain texts need no such check of each string.
    """
    if b"\\" in body and _ESCAPED(body):
        return False
    return body.isascii() or not any(search(body) for search in _WHITE_SPACE)


@cache
def resource(kind: str) -> type[Resource]:
    """Return the struct of a resource type. Raises LookupError if R4 has no such type."""
    try:
        model = get_fhir_model_class(kind)
    except (ValueError, ImportError) as error:
        raise LookupError from error
    if not model.has_resource_base():
        raise LookupError
    domain = any(base.__name__ == "DomainResource" for base in model.__mro__)
    return cast(type[Resource], struct_of(model, READ.get(kind, DomainResource if domain else Resource)))


EVERYDAY = (
    "MessageHeader",
    "ServiceRequest",
    "CarePlan",
    "Patient",
    "PractitionerRole",
    "Practitioner",
    "Organization",
    "Consent",
)


def prepare() -> None:
    """Make the structs of the resource types that every referral has, so that the first message need not wait."""
    for kind in (struct_of(get_fhir_model_class("Bundle"), Bundle), *map(resource, EVERYDAY)):
        msgspec.json.Decoder(kind, dec_hook=inside)  # msgspec reads a struct's annotations when it is used first


def conforming(body: bytes, tree: dict[str, Any]) -> Bundle | None:
    """Return the message of a body in structs of every element; None if fhir.resources must decide whether it conforms.

    `tree`: the JSON of the body. msgspec's errors may hold values, so they stay here.
    """
    try:
        return whole(tree) if is_plain(body) else None
    except (msgspec.ValidationError, LookupError, RecursionError):
        return None


def whole(tree: dict[str, Any]) -> Bundle:
    """Return a message as structs of every element. Raises msgspec.ValidationError, LookupError, RecursionError."""
    return cast(Bundle, msgspec.convert(tree, struct_of(get_fhir_model_class("Bundle"), Bundle), dec_hook=inside))


def inside(_: type[Any], value: Any) -> Resource:
    """Return the resource of an entry, or one inside another, for msgspec. Raises TypeError, LookupError."""
    if not isinstance(value, dict):
        raise TypeError
    return msgspec.convert(value, resource(value["resourceType"]), dec_hook=inside)


# ---- structs --------------------------------------------------------------------------------------------------------

_made: dict[tuple[Any, type[Struct]], Any] = {}
_numbers = count()


def struct_of(model: Any, read: type[Struct]) -> Any:
    """Return the struct of a model of fhir.resources, which extends what we read of it; its name while it is made."""
    if (model, read) not in _made:
        name = f"_{model.__name__}{next(_numbers)}"
        _made[model, read] = ForwardRef(name)
        made = _struct(name, model, read)
        globals()[name] = _made[model, read] = made
    return _made[model, read]


def _struct(of: str, model: Any, read: type[Struct]) -> type[Struct]:
    ours = {one.encode_name: one for one in fields(read)}
    required = _required(model)
    elements: list[Any] = []
    attributes: dict[str, str] = {}
    for attribute, theirs in model.model_fields.items():
        name, own = theirs.alias or attribute, ours.get(theirs.alias or attribute)
        attributes[attribute] = own.name if own else attribute
        kind = _type(theirs.annotation, own.type if own else None)
        if name in required or (own and own.required):
            elements.append((attributes[attribute], kind))
        elif own and own.default_factory is list:
            elements.append((own.name, kind, msgspec.field(default_factory=list)))
        else:
            elements.append((attributes[attribute], Optional[kind], None))  # noqa: UP045 - a kind may be a name
    rules = _rules(model, attributes)
    return defstruct(
        of,
        elements,
        bases=(read,),
        namespace={"__post_init__": rules} if rules else {},
        module=__name__,
        kw_only=True,
        forbid_unknown_fields=True,
        rename={attributes[one]: theirs.alias or one for one, theirs in model.model_fields.items()},
        **({"tag": model.__name__} if model.has_resource_base() else {}),
    )


def _required(model: Any) -> set[str]:
    """Return the required elements. fhir.resources accepts an extension in place of a primitive; it may decide that."""
    primitives = {element for element, _ in model.model_construct().get_required_fields()}
    return primitives | {one.alias or name for name, one in model.model_fields.items() if one.is_required()}


def _type(theirs: Any, ours: Any) -> Any:
    """Return the type of an element: as fhir.resources has it, with the structs, codes and limits of models.py."""
    theirs, (ours, limits) = _given(theirs), _limits(_given(ours))
    if get_origin(theirs) is not list:
        return _item(theirs, ours)
    item = _item(_given(get_args(theirs)[0]), _given(get_args(ours)[0]) if ours else None)
    listed = GenericAlias(list, (item,))
    return Annotated[listed, limits] if limits else listed


def _given(kind: Any) -> Any:
    """Return a type without None, which stands for an element that is not given."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    others = [one for one in get_args(kind) if one is not NoneType]
    return others[0] if len(others) == 1 else Union[tuple(others)]  # noqa: UP007 - of a tuple


def _limits(ours: Any) -> tuple[Any, Meta | None]:
    """Return the type of a list, and its limits."""
    if get_origin(ours) is Annotated and get_origin(get_args(ours)[0]) is list:
        return get_args(ours)
    return ours, None


def _item(theirs: Any, ours: Any) -> Any:
    if isinstance(theirs, type) and issubclass(theirs, FhirBase):
        model = theirs.get_model_klass()
        return AnyResource if model.__name__ == "Resource" else struct_of(model, ours or Fhir)
    if get_origin(theirs) is Union:  # fhir_comments
        return theirs
    kind = primitive(theirs)
    if get_origin(ours) is Literal and kind == "code":
        return ours
    if ours not in (None, _OURS.get(kind)):
        raise TypeError(f"models.py has another type for {kind}")
    return ours if ours is not None and _PRIMITIVES[kind] is str else _PRIMITIVES[kind]


def primitive(kind: Any) -> str:
    """Return FHIR's name of a primitive type of fhir.resources."""
    names = [getattr(one, "__visit_name__", None) for one in reversed(get_args(kind))]
    return "boolean" if kind is bool else next(filter(None, names), "uuid")


# ---- rules of more than one element ---------------------------------------------------------------------------------


def _rules(model: Any, attributes: dict[str, str]) -> Callable[[Any], None] | None:
    """Return the check of an object of this model, if it has rules of more than one element."""
    if model.__name__ == "FHIRPrimitiveExtension":
        return _extends_something
    checks = []
    for choice in model.model_construct().get_one_of_many_fields().values():
        required = model.model_fields[choice[0]].json_schema_extra["one_of_many_required"]
        absent = {len(choice) - 1} if required else {len(choice) - 1, len(choice)}
        checks.append((attrgetter(*(attributes[one] for one in choice)), absent))

    def one_of_each_choice(value: Any) -> None:
        for elements, absent in checks:
            if elements(value).count(None) not in absent:
                raise ValueError

    return one_of_each_choice if checks else None


def _extends_something(value: Any) -> None:
    if not value.extension and not value.fhir_comments:
        raise ValueError
