"""The router as a process, and Kafka and PostgreSQL next to it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging.cloudevents import KafkaRecord


@asynccontextmanager
async def a_process(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.router.app", env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), 30)


async def publish(bootstrap: str, records: Sequence[KafkaRecord]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    for record in records:
        await producer.send(record.topic, record.value, key=record.key, headers=list(record.headers))
    await producer.stop()


async def until(engine: AsyncEngine, query: str, count: int, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while True:
            async with engine.connect() as connection:
                if await connection.scalar(text(query)) == count:
                    return
            await asyncio.sleep(0.1)
