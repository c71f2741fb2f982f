"""Operators' actions and their reasons, stored in the schema of the service."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from services.runtime.database import Transaction


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator, and the reason for the action."""

    operator: str
    reason: str | None = None


async def record_action(tx: Transaction, service: str, action: str, by: Operator, what: Mapping[str, Any]) -> None:
    """Store an operator's action. `what` names rows and hubs, never a person."""
    await tx.execute(
        text(f"""insert into {service}.operator_action (action, operator, reason, details)
                 values (:action, :operator, :reason, cast(:details as jsonb))"""),  # noqa: S608 - a constant name
        {"action": action, "operator": by.operator, "reason": by.reason, "details": json.dumps(what)},
    )
