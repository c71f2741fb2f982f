"""The whole message against FHIR: fhir.resources (R4B, the nearest to R4 that it has) checks every element of every resource.

It checks shapes, not code bindings (those are in models.py), and on hostile input it raises more than ValidationError.
"""

from typing import Any

from fhir.resources.R4B.bundle import Bundle
from fhir_core.fhirabstractmodel import FHIRAbstractModel
from pydantic import ValidationError

from services.intake.translators.contract import Fault, faults_of, fhir_path

FHIRAbstractModel.set_global_model_config(hide_input_in_errors=True)


def faults(raw: Any) -> tuple[Fault, ...]:
    """What is wrong with the form of this message, by place and kind; empty where nothing is."""
    try:
        Bundle.model_validate(raw)
    except ValidationError as error:
        return faults_of(error, _place)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return (Fault("Bundle.entry", "invalid", "holds a resource that is none of FHIR R4, or is nested too deeply"),)
    return ()


def _place(loc: tuple[int | str, ...]) -> str:
    return fhir_path("Bundle", loc)
