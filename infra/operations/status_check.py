"""What of a status is wrong, each with what to do: `lightbulb status --check`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra.operations.status import Part, in_words

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Limits:
    """From when something is wrong; 0 means that it is not checked."""

    late_minutes: float = 15
    """Events that are not published, applied or decided."""
    lag: int = 10_000
    """Records that the router or the notifier has to read."""
    unaccepted_days: float = 3
    """The oldest case that a hub has not accepted."""
    feedback_hours: float = 24
    """The oldest feedback that is not delivered."""
    unread_hours: float = 24
    """The oldest event that no system of the hub has read."""
    ends_days: float = 30
    """Days until a certificate or token ends."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and what to do."""

    of: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.of}: {self.what}: {self.do}"


def problems(position: Mapping[str, Any], limits: Limits) -> list[Problem]:
    """Return everything that is wrong in a status; parts that it lacks are not judged."""
    services = (name for name in ("intake", "router", "notifier") if name in position)
    return [
        *(one for name in services for one in _of_service(name, position[name], limits)),
        *_of_feedback(position.get("notifier", {}), limits),
        *_lagging(position.get("lag", {}), limits),
        *(one for hub, known in position.get("hubs", {}).items() for one in _of_hub(hub, known, limits)),
        *_ending(position.get("ends", []), limits),
    ]


def _over(seconds: Any, limit: float) -> bool:
    return bool(limit) and isinstance(seconds, int) and seconds > limit


def _of_service(name: str, known: Part, limits: Limits) -> Iterator[Problem]:
    late = limits.late_minutes * MINUTE
    if _over(age := known["oldest unpublished, seconds"], late):
        yield Problem(
            name, f"an event is not published for {in_words(age)}", "start Kafka and the service; see its log"
        )
    if known.get("dead letters"):
        yield Problem(name, f"{known['dead letters']} dead letters", "lightbulb quarantine list")
    if known.get("topics paused", "none") != "none":
        yield Problem(name, f"paused: {known['topics paused']}", "see docs/operate.md, Paused topics")
    if known.get("records deleted unread", "none") != "none":
        gone = f"Kafka deleted records before they were read: {known['records deleted unread']}"
        yield Problem(name, gone, "lightbulb reconcile --dry-run")
    yield from _not_applied(name, known, late)


def _not_applied(name: str, known: Part, late: float) -> Iterator[Problem]:
    for what, subject, do in NOT_APPLIED.get(name, ()):
        if _over(age := known[f"{what}, seconds"], late):
            about, why = known[f"{what}, {subject}"], known[f"{what}, where"]
            yield Problem(name, f"{what}: {about}, {why}, {in_words(age)} old", do)


NOT_APPLIED = {
    "intake": (("oldest accepted and undecided", "reference", "start the router; else lightbulb reconcile --dry-run"),),
    "router": (
        (
            "oldest decision the notifier lacks",
            "case_id",
            "start the notifier; else lightbulb reconcile --dry-run",
        ),
    ),
}


def _of_feedback(known: Part, limits: Limits) -> Iterator[Problem]:
    if _over(age := known.get("oldest undelivered, seconds"), limits.feedback_hours * HOUR):
        about = known["oldest undelivered, reference"]
        yield Problem("notifier", f"feedback on {about} waits for {in_words(age)}", f"lightbulb trace {about}")
    if known.get("feedback failed lately"):
        yield Problem(
            "notifier", f"{known['feedback failed lately']} feedback failed", "lightbulb feedback list --failed"
        )
    if known.get("feedback not fetched for too long"):
        unfetched = f"{known['feedback not fetched for too long']} feedback is kept and was not fetched"
        yield Problem("notifier", unfetched, "lightbulb feedback list --unfetched")
    yield from _of_endpoints(known)


def _of_endpoints(known: Part) -> Iterator[Problem]:
    for one in known.get("endpoints failing", ()):
        if one["reason"] in MISSING:
            continue  # below
        failing = (
            f"the {one['channel']} endpoint of {one['partner']} fails for {in_words(one['seconds'])} ({one['reason']})"
        )
        yield Problem("notifier", failing, "see docs/operate.md, Feedback and MESH")
    for one in known.get("partners without address", ()):
        yield Problem(
            "notifier", f"{one['partner']} has no {one['channel']} address ({one['reason']})", MISSING[one["reason"]]
        )


MISSING = {"no-address": "add feedback_url to deployment.yaml", "no-settings": "set LIGHTBULB_MESH_URL"}


def _lagging(lag: Part, limits: Limits) -> Iterator[Problem]:
    if lag.get("topics missing", "none") != "none":
        yield Problem("kafka", f"these topics do not exist: {lag['topics missing']}", "lightbulb migrate")
    for name in ("router", "notifier"):
        if isinstance(records := lag.get(name), int) and limits.lag and records > limits.lag:
            yield Problem(name, f"{records:,} records behind", "see docs/operate.md, Backlog")
        elif _over(age := lag.get(f"{name}, oldest unread, seconds"), limits.late_minutes * MINUTE):
            yield Problem(name, f"a record is not read for {in_words(age)}", f"start the {name}; see its log")


def _of_hub(hub: str, known: Part, limits: Limits) -> Iterator[Problem]:
    of = f"hub {hub}"
    if _over(age := known.get("oldest case not accepted, seconds"), limits.unaccepted_days * DAY):
        case = known["oldest case not accepted, case"]
        yield Problem(of, f"case {case} is not accepted for {in_words(age)}", "ask the hub")
    if known.get("deleted unread"):
        lost = f"{known['deleted unread']} events were deleted before {known['read by group']} read them"
        yield Problem(of, lost, f"lightbulb republish --hub {hub}")
    if _over(age := known.get("oldest unread, seconds"), limits.unread_hours * HOUR):
        yield Problem(of, _unread(known, in_words(age)), "ask the hub whether its system runs")


def _unread(known: Part, age: str) -> str:
    if known["read by group"] is None:
        return f"no group has read any of its {known['unread']} events, the oldest for {age}"
    return f"{known['unread']} events are not read by {known['read by group']}, the oldest for {age}"


def _ending(ends: list[Part], limits: Limits) -> Iterator[Problem]:
    for one in ends:
        of = " of ".join(filter(None, (one["use"], one.get("partner"))))
        if limits.ends_days and one.get("days", limits.ends_days) < limits.ends_days:
            ended = "has ended" if one["days"] < 0 else f"ends in {one['days']} days"
            yield Problem(of, f"{ended} ({one['end'][:10]})", f"renew {one['file']}")
