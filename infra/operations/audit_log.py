"""Who did what by command, and why: kept in the schema of the service concerned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from services.runtime.database import Transaction


@dataclass(frozen=True, slots=True)
class Operator:
    """Who does it, and why."""

    operator: str
    reason: str | None = None


async def record_action(tx: Transaction, service: str, action: str, by: Operator, what: Mapping[str, Any]) -> None:
    """Keep who did what, and why. `what` names rows and hubs, never a person."""
    await tx.execute(
        text(f"""insert into {service}.operator_action (action, operator, reason, details)
                 values (:action, :operator, :reason, cast(:details as jsonb))"""),  # noqa: S608 - a name of ours
        {"action": action, "operator": by.operator, "reason": by.reason, "details": json.dumps(what)},
    )
