"""The contract files: write them from the code, and compare them with it."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import schemas
from infra.docgen.contracts import asyncapi, baseline, examples
from infra.docgen.contracts.json_schemas import Schema, every_schema, file_name
from services.intake.translators import form
from services.reference import directory
from services.runtime.settings import CHECKOUT

FOLDER = Path(schemas.__file__).parent / "contracts"
DIRECTORY = CHECKOUT / "infra" / "reference_data"
BASELINE = "baseline.json"
EXAMPLES = "examples.json"
GENERATED_PATTERN = "uk.lightbulb.*.schema.json"


class _Plain(yaml.SafeDumper):
    """YAML without anchors: repeated values are written in full."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@cache
def generated() -> Mapping[str, str]:
    """Return every contract file by name, generated from the code, without the baseline."""
    contracts = {file_name(name): as_json(schema) for name, schema in every_schema().items()}
    messages = as_json(dict(examples.messages()))
    return {**contracts, EXAMPLES: messages, "asyncapi.yaml": as_yaml(asyncapi.document())}


def drift(folder: Path = FOLDER) -> list[str]:
    """Return the files that differ from the code, are missing, or belong to a removed type."""
    expected = generated()
    differing = [name for name, text in expected.items() if _read(folder / name) != text]
    return sorted(differing + _left_over(folder, expected))


def write(folder: Path = FOLDER) -> list[str]:
    """Make the files agree with the code; return the names of those that changed."""
    changed, expected = drift(folder), generated()
    for name in changed:
        if name in expected:
            (folder / name).write_text(expected[name], encoding="utf-8", newline="\n")
        else:
            (folder / name).unlink()
    return changed


def write_forms(folder: Path) -> list[str]:
    """Write the JSON Schema of every form, as at /forms/{form}/schema; return the file names."""
    forms = form.load(DIRECTORY / "forms", directory.catalogue(DIRECTORY))
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in forms.items():
        (folder / file_name(name)).write_text(as_json(form.json_schema(one)), encoding="utf-8", newline="\n")
    return [file_name(name) for name in forms]


def released(folder: Path = FOLDER) -> Schema:
    """Return the baseline: the contracts as last released."""
    language: Schema = json.loads((folder / BASELINE).read_text(encoding="utf-8"))
    return language


def has_baseline(folder: Path = FOLDER) -> bool:
    """Return False only before the first release."""
    return (folder / BASELINE).exists()


def release(folder: Path = FOLDER) -> None:
    """Make the current contracts the baseline."""
    (folder / BASELINE).write_text(as_json(baseline.present()), encoding="utf-8", newline="\n")


def as_json(schema: Schema) -> str:
    """Return JSON text. Fields keep the order of the model; pydantic sorts the rest."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def as_yaml(document: Schema) -> str:
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _left_over(folder: Path, expected: Mapping[str, str]) -> list[str]:
    return [path.name for path in folder.glob(GENERATED_PATTERN) if path.name not in expected]
