"""JSON Schema (draft 2020-12): a file for each event, each command and the Referral, and their shared definitions.

They are in pydantic's validation mode, as readers need them: a field with a default may be absent. Lists of codes are closed (`enum`) in
commands; in events and in the Referral they are open: a text, with the known codes as `examples`.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from schemas.events import ALL_TYPES, COMMANDS
from schemas.referral import Referral

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CANONICAL = "referral"
DEFINITIONS = "definitions"
LOCAL = "#/$defs/"

Schema = dict[str, Any]


class Described(GenerateJsonSchema):
    """Titles on models only: pydantic's titles of fields only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def published() -> dict[str, type[BaseModel]]:
    """Return every model with its own contract, by contract name: the CloudEvents type, or `referral`."""
    return {CANONICAL: Referral, **ALL_TYPES}


def file_name(name: str) -> str:
    """Return the file name of a contract."""
    return f"{name}.schema.json"


def schema_id(name: str) -> str:
    """Return the $id of a contract: a name, not an address to fetch."""
    return f"https://lightbulb.example.org/contracts/{file_name(name)}"


@cache
def bundle() -> Schema:
    """Return all contracts in one document with shared definitions: `contracts` maps each name to a reference."""
    models = published()
    references, definitions = models_json_schema(
        [(model, "validation") for model in models.values()], schema_generator=Described
    )
    contracts = {name: references[model, "validation"] for name, model in sorted(models.items())}
    commands = {schema["$ref"].removeprefix(LOCAL) for name, schema in contracts.items() if name in COMMANDS}
    return {"contracts": contracts, "$defs": _with_codes(definitions["$defs"], commands)}


# ---- lists of codes: closed in commands, open in everything else ----------------------------------------------------

IN_COMMAND = "InCommand"
OPEN_LIST = "Open list: a reader accepts other codes than the examples."


def _with_codes(definitions: Schema, commands: set[str]) -> Schema:
    """Return the definitions with open lists of codes, and with closed ones under another name where commands use them."""
    used = _reached(definitions, commands)
    listing = {name for name in used - commands if any(map(_lists_codes, _nodes(definitions, name)))}
    opened = {name: _opened(schema) for name, schema in definitions.items() if name not in commands}
    closed = {f"{name}{IN_COMMAND}": _closed(definitions[name], listing, name) for name in listing}
    of_commands = {name: _closed(definitions[name], listing) for name in commands}
    return dict(sorted({**opened, **closed, **of_commands}.items()))


def _reached(definitions: Schema, names: set[str]) -> set[str]:
    """Return these definitions and all that they refer to."""
    reached: set[str] = set()
    while names := names - reached:
        reached |= names
        names = {other for name in names for other in _referenced(definitions[name])}
    return reached


def _nodes(definitions: Schema, name: str) -> Iterator[Schema]:
    """Yield every schema in a definition and in those that it refers to."""
    waiting: list[Any] = [definitions[one] for one in _reached(definitions, {name})]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def _lists_codes(node: Schema) -> bool:
    codes = node.get("enum", [node["const"]] if "const" in node else [])
    return node.get("type") in ("string", "integer") and bool(codes)


def _opened(node: Any) -> Any:
    """Return a schema whose lists of codes name the known ones as examples of a text."""
    if isinstance(node, list):
        return [_opened(item) for item in node]
    if not isinstance(node, dict):
        return node
    if any("pattern" in choice for choice in node.get("anyOf", ())):
        return node  # a code next to a text of any value, such as the holder `elsewhere` or a hub
    if not _lists_codes(node):
        return {key: _opened(value) for key, value in node.items()}
    rest = {key: value for key, value in node.items() if key not in ("enum", "const")}
    described = {"description": f"{node['description']} {OPEN_LIST}"} if "description" in node else {}
    return rest | described | {"examples": node.get("enum") or [node["const"]]}


def _closed(schema: Schema, listing: set[str], name: str | None = None) -> Schema:
    """Return a definition for commands: it refers to the closed form of each list of codes."""
    titled = schema | ({"title": f"{name}{IN_COMMAND}"} if name else {})
    text = json.dumps(titled)
    for other in listing:
        text = text.replace(f'"{LOCAL}{other}"', f'"{LOCAL}{other}{IN_COMMAND}"')
    closed: Schema = json.loads(text)
    return closed


def every_schema() -> dict[str, Schema]:
    """Return every contract by name, and the definitions; each definition is in one file only."""
    language = bundle()
    definitions, shared = language["$defs"], _referenced(language["$defs"])
    contracts = {
        name: _contract(definitions, reference["$ref"].removeprefix(LOCAL), shared)
        for name, reference in language["contracts"].items()
    }
    common = {
        "title": "Definitions",
        "description": "Definitions that several contracts share; contracts refer to this file by its name",
        "$defs": {name: schema for name, schema in definitions.items() if name in shared},
    }
    return {name: _headed(name, schema) for name, schema in {DEFINITIONS: common, **contracts}.items()}


def with_references(node: Any, to: str) -> Any:
    """Return the schema with every reference to a definition changed to another base."""
    if isinstance(node, list):
        return [with_references(item, to) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value.replace(LOCAL, to, 1) if key == "$ref" else with_references(value, to) for key, value in node.items()
    }


def _headed(name: str, schema: Schema) -> Schema:
    return {"$schema": DIALECT, "$id": schema_id(name), **schema}


def _contract(definitions: Schema, root: str, shared: set[str]) -> Schema:
    """Return the definition of one contract, or a reference to it if other contracts share it."""
    schema: Schema = definitions[root]
    if root in shared:
        schema = {key: schema[key] for key in ("title", "description")} | {"$ref": LOCAL + root}
    moved: Schema = with_references(schema, file_name(DEFINITIONS) + LOCAL)
    return moved


def _referenced(node: Any) -> set[str]:
    """Return the names of the referenced definitions."""
    if isinstance(node, list):
        return {name for item in node for name in _referenced(item)}
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"].removeprefix(LOCAL)} if isinstance(node.get("$ref"), str) else set()
    return own | {name for value in node.values() for name in _referenced(value)}
