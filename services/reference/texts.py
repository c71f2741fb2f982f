"""Reviewed texts of infra/reference_data/templates that more than one service reads: codes of commands, actions and providers."""

from pathlib import Path

from schemas.case import EndReason, HoldReason
from schemas.model import Immutable, ShortText, StrictInput
from schemas.text import fold
from services.reference import yaml_files


class EndTexts(StrictInput):
    """The text of an end reason, and what to do instead."""

    text: ShortText
    instead: ShortText


class CodeTexts(Immutable):
    """The texts of the codes that hubs use in commands, in templates/feedback.yaml."""

    end_reasons: dict[EndReason, EndTexts]
    hold_reasons: dict[HoldReason, ShortText]
    findings: dict[str, ShortText]


class ApprovedPhrases(StrictInput):
    """The file templates/actions.yaml: actions and providers that may be quoted from hubs."""

    actions: tuple[ShortText, ...]
    providers: tuple[ShortText, ...]


def code_texts(folder: Path) -> CodeTexts:
    """Load the texts of codes. Raise ConfigError."""
    return yaml_files.load(folder / "templates" / "feedback.yaml", CodeTexts).value


def approved_phrases(folder: Path) -> ApprovedPhrases:
    """Load templates/actions.yaml. Raise ConfigError."""
    file = yaml_files.load(folder / "templates" / "actions.yaml", ApprovedPhrases)
    named = {"actions": file.value.actions, "providers": file.value.providers}
    issues = [
        file.issue((name, place), f"{phrases[place]} is listed twice")
        for name, phrases in named.items()
        for place in yaml_files.duplicates([fold(one) for one in phrases])
    ]
    if issues:
        raise yaml_files.ConfigError(issues)
    return file.value
