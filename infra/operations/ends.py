"""When certificates and tokens end: of the files that the settings and deployment.yaml name, as far as this machine has them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.reference import yaml_files
from services.reference.partners import Deployment
from services.runtime import settings
from services.runtime.expiry import EndUnknown, Expiring

MLLP = {"mllp_certificate": "MLLP server certificate", "mllp_client_ca": "MLLP client authorities"}
"""The settings that name certificates, and what these are for."""

DAY = 86_400


def ends(deployment: Path | None) -> list[dict[str, Any]]:
    """Return use, partner, file, end and days left of each; `unknown` says why an end is not known."""
    named = [Expiring(use, Path(file)) for name, use in MLLP.items() if (file := settings.from_environment(name))]
    return [*map(_stated, named), *_of_partners(deployment)]


def _of_partners(deployment: Path | None) -> Iterator[dict[str, Any]]:
    if deployment is None:
        yield {"use": "feedback tokens", "unknown": "LIGHTBULB_DEPLOYMENT is not set here"}
        return
    try:
        partners = yaml_files.load(deployment, Deployment).value.partners
    except yaml_files.ConfigError:
        yield {"use": "feedback tokens", "file": str(deployment), "unknown": "the file cannot be read"}
        return
    for name, access in sorted(partners.items()):
        if access.feedback_token_file is not None:
            yield _stated(Expiring("feedback token", access.feedback_token_file, name))
        if access.certificate_sha256 or access.adt_certificate_sha256:
            yield {"use": "client certificate", "partner": name, "unknown": "only its hash is stored"}


def _stated(one: Expiring) -> dict[str, Any]:
    stated: dict[str, Any] = {"use": one.use, "partner": one.partner or None, "file": str(one.file)}
    try:
        end = one.end()
    except EndUnknown as error:
        return stated | {"unknown": str(error)}
    days = (end - datetime.now(UTC)).total_seconds() / DAY
    return stated | {"end": end.isoformat(), "days": int(days // 1)}
