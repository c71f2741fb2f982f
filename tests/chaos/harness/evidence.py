"""Collect the evidence of a run: PostgreSQL's rows, the topics' records, received feedback, and the state of the processes."""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import yaml

from tests.chaos.harness import db_probe
from tests.chaos.harness.cluster import Cluster
from tests.chaos.harness.db_probe import Row
from tests.chaos.harness.history import Answer, History, Message
from tests.chaos.harness.plan import Plan
from tests.chaos.harness.plan_run import PlanRun
from tests.chaos.harness.quiescence import lag
from tests.chaos.harness.sinks import Entry, ReceivedFeedback, fetch_feedback, mesh_messages


@dataclass(frozen=True)
class Health:
    """A service's process when the installation is quiescent."""

    name: str
    pid: int
    megabytes: float
    files: int
    connections: int


@dataclass
class Evidence:
    """The input of the checker: rows as PostgreSQL returned them, records as Kafka did."""

    plan: Plan
    history: History
    partners: Sequence[Mapping[str, Any]]
    messages: list[Row] = field(default_factory=list)
    intake: list[Row] = field(default_factory=list)
    referrals: list[Row] = field(default_factory=list)
    cases: list[Row] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    inputs: list[Row] = field(default_factory=list)
    case_events: list[Row] = field(default_factory=list)
    dead_letters: list[Row] = field(default_factory=list)
    feedback: list[Row] = field(default_factory=list)
    for_hubs: list[Row] = field(default_factory=list)
    """Messages of the router's outbox for hubs: target and event id."""
    records: list[Entry] = field(default_factory=list)
    poisoned: list[Entry] = field(default_factory=list)
    flooding: list[Entry] = field(default_factory=list)
    received_feedback: list[ReceivedFeedback] = field(default_factory=list)
    misdirected: int = 0
    told_again: int = 0
    """Feedback that the practice's endpoint was sent again after an older copy of the database was restored."""
    not_stored: list[ReceivedFeedback] = field(default_factory=list)
    """Feedback that the practice's endpoint got before PostgreSQL had it."""
    at_once: list[ReceivedFeedback] = field(default_factory=list)
    """Feedback that the practice's endpoint got while another attempt with it was not answered."""
    unauthorised: int = 0
    unpublished: int = 0
    lag: int = 0
    open_transactions: int = 0
    processes: list[Health] = field(default_factory=list)

    @property
    def is_read_again(self) -> bool:
        """Whether the notifier read case events after later ones of the same person: they had been deleted unread."""
        return any(
            fault.name == "records-deleted" and fault.target.startswith("case.event") for fault in self.history.faults
        )

    @property
    def is_restored(self) -> bool:
        """Whether an older copy of the database was restored: the bytes of messages are not on Kafka, and are lost."""
        return any(fault.name == "restore" and fault.met for fault in self.history.faults)


async def collect(run: PlanRun) -> Evidence:
    """Collect everything about this run, and nothing about other runs of the installation."""
    cluster = run.cluster
    partners = yaml.safe_load((cluster.running.plan.directory / "partners.yaml").read_text())["partners"]
    found = Evidence(run.plan, run.history, partners)
    await _rows(cluster, found)
    _records(cluster, found)
    await _sinks(cluster, found)
    await _state(cluster, found)
    return found


async def _rows(cluster: Cluster, found: Evidence) -> None:
    probe = cluster.probe
    sent = [answer.message for answer in found.history.answers]
    rows = await db_probe.messages(
        probe,
        sorted({one.correlation_id for one in sent if one.path}),
        sorted({one.mark for one in sent if not one.path}),
    )
    found.messages = [_with_name(row, sent) for row in rows]
    answered = {answer.reference for answer in found.history.answers if answer.is_acknowledged}
    references = sorted({one for one in {row["reference"] for row in found.messages} | answered if one})
    found.intake = await db_probe.referrals_at_intake(probe, references)
    keys = sorted({row["person_key"] for row in found.intake})
    found.referrals = await db_probe.referrals(probe, keys)
    found.cases = await db_probe.cases(probe, keys)
    found.inputs = await db_probe.inputs(probe, keys)
    found.case_events = await db_probe.case_events(probe, keys)
    found.feedback = await db_probe.feedback(probe, keys)
    found.for_hubs = await db_probe.events_for_hubs(probe, keys)
    found.keys = await db_probe.last_sequences(probe, keys)
    history = found.history
    for schema in ("router", "notifier"):
        rows = await db_probe.dead_letters(probe, schema)
        found.dead_letters += [
            row
            for row in rows
            if row["person_key"] in keys or _has_mark(row["value"], [*history.poison, *history.floods])
        ]


def _with_name(row: Row, sent: Sequence[Message]) -> Row:
    """Return a stored message with its sender's name for it. Over MLLP only the content identifies a message."""
    names = {one.mark: one.correlation_id for one in sent if not one.path} if row["format"] == "hl7v2" else {}
    name = next((name for mark, name in names.items() if mark in row["body"]), row["correlation_id"])
    return {key: value for key, value in row.items() if key not in db_probe.BODY} | {"name": name}


def _has_mark(value: bytes, marks: Sequence[str]) -> bool:
    return any(mark.encode() in value for mark in marks)


def _records(cluster: Cluster, found: Evidence) -> None:
    keys = {row["person_key"] for row in found.intake}
    found.records = [entry for entry in cluster.log.entries if entry.key in keys]
    found.poisoned = [entry for entry in cluster.log.entries if _has_mark(entry.value, found.history.poison)]
    found.flooding = [entry for entry in cluster.log.entries if _has_mark(entry.value, found.history.floods)]


async def _sinks(cluster: Cluster, found: Evidence) -> None:
    ours = {row["reference"] for row in found.intake}
    found.received_feedback = [one for one in cluster.endpoint.received_feedback if one.reference in ours]
    found.not_stored = [one for one in cluster.endpoint.not_stored if one.reference in ours]
    found.at_once = [one for one in cluster.endpoint.at_once if one.reference in ours]
    found.misdirected, found.unauthorised = cluster.endpoint.misdirected, cluster.endpoint.unauthorised
    if found.is_restored:
        found.told_again = cluster.endpoint.repeats - found.history.repeats_before_restore
    mesh = cluster.addresses["mesh"]
    box = await asyncio.to_thread(mesh_messages, mesh["url"], "X26ABC2", mesh["password"], mesh["shared_key"])
    found.received_feedback += [one for one in box if one.reference in ours or not one.reference]
    for partner in sorted({row["recipient"] for row in found.feedback if row["channel"] == "mailbox"}):
        references = sorted({row["reference"] for row in found.feedback if row["recipient"] == partner})
        found.received_feedback += await fetch_feedback(
            cluster.session, cluster.addresses["notifier"], partner, cluster.token(partner), references
        )


async def _state(cluster: Cluster, found: Evidence) -> None:
    for schema in db_probe.SCHEMAS:
        found.unpublished += await db_probe.unpublished(cluster.probe, schema)
    found.lag = await lag(cluster)
    found.open_transactions = await db_probe.open_transactions(cluster.probe)
    for name, child in cluster.processes().items():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just been stopped
            found.processes.append(_health(name, child.pid))


def _health(name: str, pid: int) -> Health:
    process = psutil.Process(pid)
    with process.oneshot():
        return Health(
            name,
            pid,
            process.memory_info().rss / 1_048_576,
            process.num_fds(),
            len(process.net_connections()),
        )


TABLES = ("messages", "intake", "referrals", "cases", "inputs", "case_events", "dead_letters", "feedback")


def as_json(evidence: Evidence) -> str:
    """Return the evidence of a failed run as JSON for analysis."""
    parts = {
        "answers": [_answer(answer) for answer in evidence.history.answers],
        "commands": [vars(c) for c in evidence.history.commands],
        "faults": [vars(f) for f in evidence.history.faults],
        "notes": evidence.history.notes,
        **{name: [dict(row) for row in getattr(evidence, name)] for name in TABLES},
        "records": [(e.topic, e.partition, e.offset, e.key, dict(e.headers)) for e in evidence.records],
        "received_feedback": [vars(a) for a in evidence.received_feedback],
        "processes": [vars(p) for p in evidence.processes],
    }
    return json.dumps(parts, default=str, indent=1)


def _answer(answer: Answer) -> tuple[object, ...]:
    sent = answer.message
    return sent.person, sent.referral, sent.kind, answer.status, answer.code, answer.reference, sent.correlation_id
