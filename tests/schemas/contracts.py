"""Reading the committed contracts as an outsider does: the files and a JSON Schema validator, nothing of ours."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # ships no types
from referencing import Registry, Resource

import schemas

FOLDER = Path(schemas.__file__).parent / "contracts"
DEFINITIONS = "definitions.schema.json"


@cache
def committed(name: str) -> Any:
    """The contract of this name, such as `referral` or a CloudEvents type, as it stands in its file."""
    return json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))


@cache
def resolved(name: str) -> Any:
    """A contract whose references to the definitions lead into itself."""
    whole = {**committed(name), "$defs": committed("definitions")["$defs"]}
    return json.loads(json.dumps(whole).replace(f'"{DEFINITIONS}#/', '"#/'))


@cache
def validator(name: str) -> Any:
    """Checks documents against a committed contract, formats too."""
    return Draft202012Validator(committed(name), format_checker=FormatChecker(), registry=_registry())


@cache
def _registry() -> Registry[Any]:
    """Every committed contract by its $id: nothing is fetched."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.schema.json")]
    return Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in files)


def faults(name: str, document: Any) -> list[str]:
    """Where a document breaks a contract: places and keywords."""
    return [f"{error.json_path} {error.validator}" for error in validator(name).iter_errors(document)]
