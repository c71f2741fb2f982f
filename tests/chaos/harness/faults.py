"""All faults by name. Each begins, lasts as planned, and ends; when all have ended, all connections are restored."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tests.chaos.harness.cluster import Cluster
from tests.chaos.harness.history import History, InjectedFault
from tests.chaos.harness.injection import Injection
from tests.chaos.harness.load import Load
from tests.chaos.harness.load_faults import Flood, HotKey, MalformedCommands, RefusingTopic, SlowRecipient
from tests.chaos.harness.passing_faults import (
    AddressMissing,
    Flapping,
    ReadOnly,
    RecordsDeleted,
    ServersAwayAtStart,
    TableRenamed,
)
from tests.chaos.harness.restore import Restore
from tests.chaos.harness.schedule import PlannedFault
from tests.chaos.harness.server_faults import (
    BrokerKilled,
    ConnectionsExhausted,
    Deadlocks,
    DiskFull,
    ErrorsByTrigger,
    LeaderMoved,
    Poison,
    PostgresKilled,
    SessionsEnded,
)
from tests.chaos.harness.service_faults import (
    AnswerLost,
    ClockSkew,
    Cut,
    EndpointFault,
    Hang,
    Kill,
    KillBoth,
    LoopBlocked,
    RollingRestart,
    Slow,
    Stop,
)


async def inject(
    cluster: Cluster, planned: Sequence[PlannedFault], history: History, load: Load, *, alone: bool = False
) -> None:
    """Inject all faults of a plan, each at its time; return when all have ended."""
    try:
        async with asyncio.TaskGroup() as together:
            for fault in planned:
                together.create_task(_one(cluster, FAULTS[fault.name](fault, load), history, alone))
    finally:
        await cluster.restore()


async def _one(cluster: Cluster, fault: Injection, history: History, alone: bool) -> None:
    planned = fault.planned
    await asyncio.sleep(planned.begins_at)
    noted = InjectedFault(planned.name, fault.target(cluster), time.monotonic(), alone=alone, holds=fault.holds)
    noted.grace = fault.grace
    noted.began_at = datetime.now(UTC)
    history.faults.append(noted)
    try:
        await fault.begin(cluster, history)
        await asyncio.sleep(planned.seconds)
    finally:
        await fault.end(cluster, history)
        noted.ended, noted.ended_at = time.monotonic(), datetime.now(UTC)
        noted.met, noted.what = fault.met, fault.what_it_met
        await fault.repair(cluster, history)


FAULTS: Mapping[str, type[Injection]] = {
    "kill": Kill,
    "kill-both": KillBoth,
    "stop": Stop,
    "stop-short": Stop,
    "loop-blocked": LoopBlocked,
    "rolling-restart": RollingRestart,
    "cut-kafka": Cut,
    "cut-postgres": Cut,
    "cut-mesh": Cut,
    "hang-kafka": Hang,
    "hang-postgres": Hang,
    "slow-kafka": Slow,
    "slow-postgres": Slow,
    "answer-lost-http": AnswerLost,
    "answer-lost-mllp": AnswerLost,
    "answer-lost-commit": AnswerLost,
    "answer-lost-produce": AnswerLost,
    "answer-lost-mesh": AnswerLost,
    "answer-lost-fhir": AnswerLost,
    "broker-killed": BrokerKilled,
    "leader-moved": LeaderMoved,
    "poison": Poison,
    "postgres-killed": PostgresKilled,
    "sessions-ended": SessionsEnded,
    "serialization": ErrorsByTrigger,
    "deadlock": Deadlocks,
    "connections-exhausted": ConnectionsExhausted,
    "disk-full-postgres": DiskFull,
    "disk-full-kafka": DiskFull,
    "endpoint-slow": EndpointFault,
    "endpoint-fails": EndpointFault,
    "endpoint-lies": EndpointFault,
    "clock-skew": ClockSkew,
    "hot-key": HotKey,
    "topic-refuses": RefusingTopic,
    "commands-malformed": MalformedCommands,
    "commands-flood": Flood,
    "recipient-slow": SlowRecipient,
    "postgres-read-only": ReadOnly,
    "postgres-flapping": Flapping,
    "table-renamed": TableRenamed,
    "records-deleted": RecordsDeleted,
    "servers-away-at-start": ServersAwayAtStart,
    "endpoint-redirects": EndpointFault,
    "endpoint-not-found": EndpointFault,
    "address-missing": AddressMissing,
    "restore": Restore,
}
