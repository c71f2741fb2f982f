"""All faults by name: each begins, lasts as long as its seed says, and ends; when all have ended nothing of them is left."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from tests.chaos.history import History, Injected
from tests.chaos.injection import Injection
from tests.chaos.schedule import Fault
from tests.chaos.server_faults import (
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
from tests.chaos.service_faults import (
    AnswerLost,
    ClockSkew,
    Cut,
    EndpointMood,
    Hang,
    Kill,
    KillBoth,
    LoopBlocked,
    RollingRestart,
    Slow,
    Stop,
)
from tests.chaos.world import World


async def inject(world: World, planned: Sequence[Fault], history: History, *, alone: bool = False) -> None:
    """All faults of a seed, each at its time; returns when all have ended."""
    try:
        async with asyncio.TaskGroup() as together:
            for fault in planned:
                together.create_task(_one(world, fault, history, alone))
    finally:
        await world.mend()


async def _one(world: World, planned: Fault, history: History, alone: bool) -> None:
    await asyncio.sleep(planned.begins_at)
    fault = MAKE[planned.name](planned)
    noted = Injected(planned.name, fault.about(world), time.monotonic(), alone=alone)
    history.faults.append(noted)
    try:
        await fault.begin(world, history)
        await asyncio.sleep(planned.seconds)
    finally:
        await fault.end(world, history)
        noted.ended, noted.met, noted.what = time.monotonic(), fault.met, fault.what_it_met


MAKE: Mapping[str, type[Injection]] = {
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
    "endpoint-slow": EndpointMood,
    "endpoint-fails": EndpointMood,
    "endpoint-lies": EndpointMood,
    "clock-skew": ClockSkew,
}
