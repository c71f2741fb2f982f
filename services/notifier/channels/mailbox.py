"""Channel of partners that fetch their feedback: GET /referrals/{reference}/feedback.

A caller gets only feedback that was composed for it. For any other reference the response is the same 404 as for an unknown one.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from services.notifier.channels import Delivered, DeliveryRequest, Outcome, Rendered
from services.notifier.compose import Coded, CompletedAction, Feedback, HubContact, NeedOutcome
from services.reference.partners import Partner


class Mailbox:
    """Implements `Channel`. Feedback is stored when it is composed; there is nothing to send."""

    def render(self, feedback: Feedback) -> Rendered:
        """Return the feedback as JSON, as it will be fetched."""
        return Rendered(orjson.dumps(as_fetched(feedback)), {})

    async def deliver(self, request: DeliveryRequest) -> Outcome:
        """Return Delivered: the feedback has been available since it was composed."""
        return Delivered()


def recipients_of(caller: Partner) -> list[str]:
    """Return the recipient ids of `caller`: its partner id, and `ods:<code>` from before it became a partner."""
    return [caller.id, f"ods:{caller.ods}"] if caller.ods else [caller.id]


def as_fetched(feedback: Feedback) -> dict[str, Any]:
    """Return a feedback as plain texts and codes; a status-only feedback without its content."""
    status = {
        "id": feedback.id,
        "reference": feedback.reference,
        "referral_id": feedback.referral_id,
        "status": feedback.status.value,
        "at": feedback.at.isoformat(),
        "detail": "full" if feedback.full else "status-only",
        "hub": _hub(feedback.hub),
        "text": list(feedback.text),
        "is_restatement": feedback.is_restatement,
    }
    return _present(status | _content(feedback) if feedback.full else status)


def _content(feedback: Feedback) -> dict[str, Any]:
    return {
        "feedback_type": feedback.feedback_type.value,
        "routing_reasons": [_coded(reason) for reason in feedback.routing_reasons],
        "reason": _coded(feedback.reason) if feedback.reason else None,
        "until": feedback.until.isoformat() if feedback.until else None,
        "refer_to": _hub(feedback.refer_to),
        "needs": [_coded(need) for need in feedback.needs],
        "open_needs": [_coded(need) for need in feedback.open_needs],
        "ended_needs": [_outcome(one) for one in (*feedback.ended_before, *feedback.ended)],
        "findings": [{"service": _coded(f.service), "finding": _coded(f.finding)} for f in feedback.findings],
        "completed_actions": [_done(done) for done in feedback.completed_actions],
    }


def _done(done: CompletedAction) -> dict[str, Any]:
    return _present(
        {
            "service": _coded(done.service),
            "action": done.action,
            "provider": done.provider,
            "date": done.on.isoformat() if done.on else None,
        }
    )


def _outcome(outcome: NeedOutcome) -> dict[str, Any]:
    return {"need": _coded(outcome.need), "status": outcome.status.value}


def _coded(coded: Coded) -> dict[str, str]:
    return {"code": coded.code, "text": coded.text}


def _hub(hub: HubContact | None) -> dict[str, Any] | None:
    return _present({"name": hub.name, "phone": hub.phone, "email": hub.email}) if hub else None


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != [] and value is not False}
