"""The directory of infra/reference_data: hubs, districts, authorities outside, services and capacity."""

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from services.reference import yaml_files
from services.reference.directory import validation
from services.reference.directory.model import (
    AuthoritiesFile,
    Authority,
    CapacityFile,
    Catalogue,
    Directory,
    Files,
    Full,
    Hub,
    HubsFile,
    OfferedService,
    ServicesFile,
    UnknownService,
)

__all__ = [
    "FILES",
    "Authority",
    "CapacityFile",
    "Catalogue",
    "Directory",
    "Full",
    "Hub",
    "HubsFile",
    "OfferedService",
    "UnknownService",
    "catalogue",
    "labels",
    "load",
]

_MODELS: Mapping[str, type[Any]] = {
    "hubs.yaml": HubsFile,
    "authorities.yaml": AuthoritiesFile,
    "services.yaml": ServicesFile,
    "capacity.yaml": CapacityFile,
}
FILES = tuple(_MODELS)
"""Names of the files that this module reads; the version is a hash of their content."""


def load(folder: Path) -> Directory:
    """Load the directory. Raise ConfigError with all issues found in its files."""
    files = Files(*yaml_files.gather(partial(yaml_files.load, folder / name, model) for name, model in _MODELS.items()))
    directory = Directory(
        version=_version(folder),
        county=files.hubs.value.county,
        hubs=files.hubs.value.hubs,
        authorities=files.authorities.value.authorities,
        services=files.services.value.services,
        full=files.capacity.value.full,
    )
    if issues := list(validation.find_issues(directory, files)):
        raise yaml_files.ConfigError(issues)
    return directory


def catalogue(folder: Path) -> Catalogue:
    """Load the codes of services.yaml alone. Raise ConfigError."""
    file = yaml_files.load(folder / "services.yaml", ServicesFile)
    return frozenset(offer.service for offer in file.value.services)


def labels(folder: Path) -> Mapping[str, str]:
    """Return the labels that people read, by code of services.yaml. Raise ConfigError."""
    file = yaml_files.load(folder / "services.yaml", ServicesFile)
    return {offer.service: offer.label for offer in file.value.services}


def _version(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in FILES:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return digest.hexdigest()[:12]
