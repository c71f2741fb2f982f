"""Collects what a run left behind: PostgreSQL's rows, the topics' records, what every sink has, and how the processes are."""

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
from tests.chaos.harness.history import History, Message
from tests.chaos.harness.plan import Plan
from tests.chaos.harness.plan_run import PlanRun
from tests.chaos.harness.quiescence import lag
from tests.chaos.harness.sinks import Entry, ReceivedFeedback, fetch_feedback, mesh_messages


@dataclass(frozen=True)
class Health:
    """A process of a service after the drain."""

    name: str
    pid: int
    megabytes: float
    files: int
    connections: int


@dataclass
class Evidence:
    """All that the checker judges. Rows are as PostgreSQL gave them, records as Kafka did."""

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
    quarantine: list[Row] = field(default_factory=list)
    feedback: list[Row] = field(default_factory=list)
    for_hubs: list[Row] = field(default_factory=list)
    """What the router's outbox holds for hubs: target and event id."""
    records: list[Entry] = field(default_factory=list)
    poisoned: list[Entry] = field(default_factory=list)
    received_feedback: list[ReceivedFeedback] = field(default_factory=list)
    misdirected: int = 0
    unauthorised: int = 0
    unpublished: int = 0
    lag: int = 0
    open_transactions: int = 0
    processes: list[Health] = field(default_factory=list)


async def collect(run: PlanRun) -> Evidence:
    """Everything about this run, and nothing of other runs of the installation."""
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
    references = sorted({row["reference"] for row in found.messages if row["reference"]})
    found.intake = await db_probe.referrals_at_intake(probe, references)
    keys = sorted({row["person_key"] for row in found.intake})
    found.referrals = await db_probe.referrals(probe, keys)
    found.cases = await db_probe.cases(probe, keys)
    found.inputs = await db_probe.inputs(probe, keys)
    found.case_events = await db_probe.case_events(probe, keys)
    found.feedback = await db_probe.feedback(probe, keys)
    found.for_hubs = await db_probe.events_for_hubs(probe, keys)
    found.keys = await db_probe.last_sequences(probe, keys)
    for schema in ("router", "notifier"):
        rows = await db_probe.dead_letters(probe, schema)
        found.quarantine += [
            row for row in rows if row["person_key"] in keys or _is_of_this_run(row["value"], found.history)
        ]


def _with_name(row: Row, sent: Sequence[Message]) -> Row:
    """A kept message, with what its sender would call it: over MLLP nothing but its content says which message it is."""
    names = {one.mark: one.correlation_id for one in sent if not one.path} if row["format"] == "hl7v2" else {}
    name = next((name for mark, name in names.items() if mark in row["body"]), row["correlation_id"])
    return {key: value for key, value in row.items() if key != "body"} | {"name": name}


def _is_of_this_run(value: bytes, history: History) -> bool:
    return any(mark.encode() in value for mark in history.poison)


def _records(cluster: Cluster, found: Evidence) -> None:
    keys = {row["person_key"] for row in found.intake}
    found.records = [entry for entry in cluster.log.entries if entry.key in keys]
    found.poisoned = [entry for entry in cluster.log.entries if _is_of_this_run(entry.value, found.history)]


async def _sinks(cluster: Cluster, found: Evidence) -> None:
    ours = {row["reference"] for row in found.intake}
    found.received_feedback = [one for one in cluster.endpoint.received_feedback if one.reference in ours]
    found.misdirected, found.unauthorised = cluster.endpoint.misdirected, cluster.endpoint.unauthorised
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
        with contextlib.suppress(psutil.NoSuchProcess):  # it was asked to stop a moment ago
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


def as_json(evidence: Evidence) -> str:
    """For a failing seed: everything that was collected, as JSON, to be looked at."""
    parts = {
        "answers": [
            (
                a.message.person,
                a.message.referral,
                a.message.kind,
                a.status,
                a.code,
                a.reference,
                a.message.correlation_id,
            )
            for a in evidence.history.answers
        ],
        "commands": [vars(c) for c in evidence.history.commands],
        "faults": [vars(f) for f in evidence.history.faults],
        "notes": evidence.history.notes,
        **{
            name: [dict(row) for row in getattr(evidence, name)]
            for name in ("messages", "intake", "referrals", "cases", "inputs", "case_events", "quarantine", "feedback")
        },
        "records": [(e.topic, e.partition, e.offset, e.key, dict(e.headers)) for e in evidence.records],
        "arrived": [vars(a) for a in evidence.received_feedback],
        "processes": [vars(p) for p in evidence.processes],
    }
    return json.dumps(parts, default=str, indent=1)
