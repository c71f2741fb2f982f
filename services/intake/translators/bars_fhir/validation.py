"""Validate a whole message with fhir.resources (R4B, its nearest version to R4): every element of every resource.

It checks structure, not code bindings (models.py does), and raises more than ValidationError on hostile input. Each
resource is validated by its own class: Bundle would look the class up again for every entry, an eighth of the time.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.bundle import Bundle
from fhir_core.fhirabstractmodel import FHIRAbstractModel
from pydantic import ValidationError

from services.intake import limits
from services.intake.translators.translator import Issue, fhir_path, issues_of

FHIRAbstractModel.set_global_model_config(hide_input_in_errors=True)


def find_issues(raw: Any) -> tuple[Issue, ...]:
    """Return the structural faults of a message by place and kind; at most 50."""
    return tuple(_issues(raw))[: limits.ISSUES]


def _issues(raw: Any) -> Iterator[Issue]:
    entries = raw.get("entry")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        yield from _issues_in(Bundle.model_validate, raw, ())
        return
    envelope = raw | {"entry": [{name: entry[name] for name in entry if name != "resource"} for entry in entries]}
    yield from _issues_in(Bundle.model_validate, envelope, ())
    resources = [(index, entry["resource"]) for index, entry in enumerate(entries) if entry.get("resource") is not None]
    for index, resource in resources:
        try:
            model = _class_of(resource["resourceType"])
        except (KeyError, TypeError, ValueError, LookupError, ImportError, AttributeError):
            yield _no_resource(index)
            continue
        yield from _issues_in(model.model_validate, resource, ("entry", index, "resource"))


@lru_cache(maxsize=200)
def _class_of(resource_type: str) -> Any:
    model = get_fhir_model_class(resource_type)
    if not model.has_resource_base():
        raise LookupError
    return model


def _issues_in(validate: Callable[[Any], Any], value: Any, at: tuple[int | str, ...]) -> Iterator[Issue]:
    try:
        validate(value)
    except ValidationError as error:
        yield from issues_of(error, lambda loc: fhir_path("Bundle", (*at, *loc)))
    except (KeyError, TypeError, ValueError, AttributeError, LookupError, RecursionError):
        place = fhir_path("Bundle", at)
        yield Issue(place, "invalid", "has an element that FHIR R4 does not define, or is nested too deeply")


def _no_resource(index: int) -> Issue:
    return Issue(fhir_path("Bundle", ("entry", index, "resource")), "invalid", "is not a FHIR R4 resource")
