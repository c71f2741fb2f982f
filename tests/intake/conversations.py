"""BaRS messages that name their referral in one way or another, and their answers."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from tests.builders.bars import a_bars_message
from tests.intake.running import InProcess, Reply

Message = dict[str, Any]


def named(
    *,
    id: str | None = None,
    url: str | None = None,
    identifier: Mapping[str, str] | None = None,
    bundle: str | None = None,
    seed: object = "one",
    **more: Any,
) -> Message:
    """Build a message that gives its referral these names only, as BaRS senders do: a new ServiceRequest has no id."""
    message = a_bars_message(seed=seed, bundle_id=bundle or str(uuid4()), **more)
    entry = next(one for one in message["entry"] if one["resource"]["resourceType"] == "ServiceRequest")
    del entry["resource"]["id"]
    entry["fullUrl"] = url or f"urn:uuid:{uuid4()}"
    message["entry"][0]["resource"]["focus"] = [{"reference": entry["fullUrl"]}]
    if id is not None:
        entry["resource"]["id"] = id
    if identifier:
        entry["resource"]["identifier"] = [dict(identifier)]
    return message


async def sent(
    intake: InProcess, message: Message, sender: str = "gp-alder-lane", request_id: str | None = None
) -> Reply:
    return await intake.bars(message, sender=sender, x_request_id=request_id or str(uuid4()))


def fault(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["issue"][0]["code"]
