"""A hub system's connection: hear of cases, accept them. Plain Kafka and JSON; nothing of Lightbulb is imported.

python examples/connect/hub.py KAFKA HUB        for example  127.0.0.1:9092 charnwood
"""

import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def main(kafka: str, hub: str) -> None:
    consumer = AIOKafkaConsumer(f"hub.{hub}.case", bootstrap_servers=kafka, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await consumer.start()
    await producer.start()
    try:
        async for record in consumer:
            event = {name: value.decode() for name, value in record.headers}
            case = json.loads(record.value)
            print(event["ce_type"], case["case_id"], "version", case["hub_version"], flush=True)
            if case.get("role") == "holder" and case["case"]["status"] == "requested":
                await producer.send_and_wait(
                    f"hub.{hub}.command",  # who commands is the topic
                    json.dumps(
                        {
                            "case_id": case["case_id"],
                            "person_key": case["person_key"],
                            "expected_version": case["hub_version"],  # the latest that we had received
                        }
                    ).encode(),
                    key=case["person_key"].encode(),
                    headers=[
                        ("ce_specversion", b"1.0"),
                        ("ce_id", str(uuid.uuid4()).encode()),  # a repeat must carry the same id
                        ("ce_type", b"uk.lightbulb.case.accept.v1"),
                        ("ce_source", f"/{hub}/housing-system".encode()),
                        ("ce_time", datetime.now(UTC).isoformat().encode()),
                        ("ce_partitionkey", case["person_key"].encode()),
                        ("ce_correlationid", event["ce_correlationid"].encode()),
                        ("ce_causationid", event["ce_id"].encode()),
                        ("content-type", b"application/json"),
                    ],
                )
    finally:
        await consumer.stop()
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
