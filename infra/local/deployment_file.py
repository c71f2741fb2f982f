"""deployment.yaml of a local installation: what `lightbulb up` generates, and what a person has written there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.local.embedded import StartFailed, ports_and_secrets
from services.reference import partners, yaml_files
from services.reference.partners import Deployment, Partner

Entries = Mapping[str, Mapping[str, Any]]
"""The settings of partners by their ids."""

HEAD = """\
# `lightbulb up` adds what is missing here. What you add or change stays, but comments do not.
"""
FEEDBACK = ("feedback_url", "feedback_token_file")


def check(data: Path, loaded: Mapping[str, Partner], feedback_urls: Mapping[str, str]) -> None:
    """Raise ConfigError if the file cannot be read, StartFailed if a feedback URL is for no partner with a FHIR endpoint."""
    _written(data / "deployment.yaml")
    for name in feedback_urls:
        if name not in loaded:
            raise StartFailed(f"--feedback: partners.yaml has no partner {name}.")
        if (channel := loaded[name].feedback.channel) != "fhir":
            raise StartFailed(f"--feedback: the channel of {name} is {channel} in partners.yaml; only fhir has a URL.")


def write(data: Path, directory: Path, generated: Entries, feedback_urls: Mapping[str, str]) -> Deployment:
    """Write the file with these entries and what a person wrote; return it. Raise ConfigError, StartFailed.

    A key that a person added or changed stays; other keys are those of `generated`. `feedback_urls` replace what is there.
    """
    data = data.resolve()
    file, own_file = data / "deployment.yaml", data / "deployment.generated.json"
    written = _written(file)
    earlier = ports_and_secrets.read_json(own_file) if own_file.exists() else {}
    entries = merge(written, earlier, {**generated, **_with_feedback(data, generated, feedback_urls)})
    entries |= {name: {**entries[name], "feedback_url": url} for name, url in feedback_urls.items()}
    if entries != written:
        ports_and_secrets.write(file, HEAD + yaml.safe_dump({"partners": entries}))
    ports_and_secrets.write(own_file, json.dumps(generated))
    partners.load(directory, file)
    return yaml_files.load(file, Deployment).value


def _written(file: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of the file as they are written; none if it is not there. Raise ConfigError."""
    if not file.exists():
        return {}
    yaml_files.load(file, Deployment)
    return dict(yaml_files.load(file, dict[str, Any]).value.get("partners", {}))


def merge(written: Entries, earlier: Entries, generated: Entries) -> dict[str, dict[str, Any]]:
    """Return `generated`, and of `written` what differs from `earlier`, the entries that were generated before.

    Feedback settings stay until a person removes them.
    """
    merged: dict[str, dict[str, Any]] = {}
    for name in [*written, *(name for name in generated if name not in written)]:
        last = earlier.get(name, {})
        own = {key: value for key, value in written.get(name, {}).items() if key in FEEDBACK or last.get(key) != value}
        if entry := {**generated.get(name, {}), **own}:
            merged[name] = entry
    return merged


def _with_feedback(data: Path, generated: Entries, feedback_urls: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    token_files = {name: data / f"feedback-token-{name}" for name in feedback_urls}
    for token_file in token_files.values():
        ports_and_secrets.secret(token_file)
    return {
        name: {**generated[name], "feedback_url": feedback_urls[name], "feedback_token_file": str(token_file)}
        for name, token_file in token_files.items()
    }


def mllp_ports(
    data: Path, deployment: Deployment, chosen: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Return the MLLP ports of partners by `mllp` and `adt_mllp`. Raise StartFailed if one that a person wrote is in use.

    `chosen`: the free ports, in the same form.
    """
    listening: dict[str, dict[str, int]] = {"mllp": {}, "adt_mllp": {}}
    ports = [(name, *pair) for name, one in sorted(deployment.partners.items()) for pair in one.mllp_ports.items()]
    for name, setting, port in ports:
        kind = setting.removesuffix("_port")
        if port != chosen[kind].get(name) and not ports_and_secrets.is_free(port):
            file = data / "deployment.yaml"
            raise StartFailed(f"{file}: {setting} {port} of {name} is in use by another process.")
        listening[kind][name] = port
    return listening
