"""Reading the committed contracts as an outsider does: the files and a JSON Schema validator, nothing of ours."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # ships no types

import schemas

FOLDER = Path(schemas.__file__).parent / "contracts"


@cache
def committed(name: str) -> Any:
    """The contract of this name, such as `referral` or a CloudEvents type."""
    return json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))


@cache
def validator(name: str) -> Any:
    """Checks documents against a committed contract, formats too."""
    return Draft202012Validator(committed(name), format_checker=FormatChecker())


def faults(name: str, document: Any) -> list[str]:
    """Where a document breaks a contract: places and keywords."""
    return [f"{error.json_path} {error.validator}" for error in validator(name).iter_errors(document)]
