"""One JSON Schema (draft 2020-12) for each event and command, and for the canonical Referral.

They are made in pydantic's validation mode: what a reader must be ready for, so a field with a default may be absent.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from schemas.events import ALL_TYPES
from schemas.referral import Referral

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CANONICAL = "referral"

Schema = dict[str, Any]


class Described(GenerateJsonSchema):
    """Titles on models only: those that pydantic makes from field names repeat the field name and say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def published() -> dict[str, type[BaseModel]]:
    """Every model that has a contract of its own, by contract name: the CloudEvents type, or `referral`."""
    return {CANONICAL: Referral, **ALL_TYPES}


def urn(name: str) -> str:
    """The $id of a contract. It names, it is not an address: nothing has to be fetched to use a contract."""
    return f"urn:lightbulb:schema:{name}"


def schema_of(name: str, model: type[BaseModel]) -> Schema:
    """The contract of one model, whole: it refers to nothing outside its own file."""
    return {"$schema": DIALECT, "$id": urn(name), **model.model_json_schema(schema_generator=Described)}


def every_schema() -> dict[str, Schema]:
    """Every contract by its name."""
    return {name: schema_of(name, model) for name, model in sorted(published().items())}


def bundle() -> Schema:
    """All contracts in one document with shared definitions: `contracts` maps each name to a reference."""
    models = published()
    references, definitions = models_json_schema(
        [(model, "validation") for model in models.values()], schema_generator=Described
    )
    contracts = {name: references[model, "validation"] for name, model in sorted(models.items())}
    return {"contracts": contracts, "$defs": definitions["$defs"]}
