"""When certificates and tokens end: of the files that the settings and deployment.yaml name, as far as this machine has them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.reference import yaml_files
from services.reference.partners import Deployment
from services.runtime import expiry, settings
from services.runtime.expiry import EndUnknown, Expiring

DAY = 86_400


def ends(deployment: Path | None) -> list[dict[str, Any]]:
    """Return use, partner, file, end and days left of each; `unknown` says why an end is not known."""
    mllp = expiry.of_mllp(settings.from_environment("mllp_certificate"), settings.from_environment("mllp_client_ca"))
    return [*map(_stated, mllp), *_of_partners(deployment)]


def _of_partners(deployment: Path | None) -> Iterator[dict[str, Any]]:
    if deployment is None:
        yield {"use": "feedback-token", "unknown": "LIGHTBULB_DEPLOYMENT is not set here"}
        return
    try:
        deployed = yaml_files.load(deployment, Deployment).value
    except yaml_files.ConfigError:
        yield {"use": "feedback-token", "file": str(deployment), "unknown": "the file cannot be read"}
        return
    for name, access in sorted(deployed.partners.items()):
        if access.feedback_token_file is not None:
            yield from map(_stated, expiry.of_feedback_tokens([(name, access.feedback_token_file)]))
        if access.certificate_sha256 or access.adt_certificate_sha256:
            yield {"use": "client-certificate", "partner": name, "unknown": "only its hash is stored"}


def _stated(one: Expiring) -> dict[str, Any]:
    stated: dict[str, Any] = {"use": one.use, "partner": one.partner or None, "file": str(one.file)}
    try:
        end = one.end()
    except EndUnknown as error:
        return stated | {"unknown": str(error)}
    days = (end - datetime.now(UTC)).total_seconds() / DAY
    return stated | {"end": end.isoformat(), "days": int(days // 1)}
