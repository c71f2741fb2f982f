"""Post referrals as fast as they are answered, from a separate process so that its CPU time is measured separately.

python -m bench.load --url http://127.0.0.1:8000 --token-file T --count 2000 --connections 16 --run r1 --out
posts.jsonl
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from bench.messages import BenchmarkMessage, messages

FHIR_JSON = "application/fhir+json; version=1.0.0"


async def _post_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return every post: correlation id, status, start time, seconds until the response."""
    waiting = iter(list(messages(args.count, args.run)))
    headers = {"Authorization": f"Bearer {args.token_file.read_text().strip()}", "Content-Type": FHIR_JSON}
    connector = aiohttp.TCPConnector(limit=args.connections)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        posted = await asyncio.gather(*(_post(session, args.url, waiting) for _ in range(args.connections)))
    return [post for posts in posted for post in posts]


async def _post(session: aiohttp.ClientSession, url: str, waiting: Iterator[BenchmarkMessage]) -> list[dict[str, Any]]:
    posts = []
    for message in waiting:
        ids = {"X-Request-Id": message.request_id, "X-Correlation-Id": message.correlation_id}
        began, at = time.perf_counter(), time.time()
        async with session.post(f"{url}/fhir/$process-message", data=message.body, headers=ids) as answer:
            await answer.read()
        took = time.perf_counter() - began
        posts.append({"id": message.correlation_id, "status": answer.status, "at": at, "took": took})
    return posts


def main() -> None:
    """Post the referrals, then write the results."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--url", required=True)
    reader.add_argument("--token-file", type=Path, required=True)
    reader.add_argument("--count", type=int, required=True)
    reader.add_argument("--connections", type=int, required=True)
    reader.add_argument("--run", required=True)
    reader.add_argument("--out", type=Path, required=True)
    args = reader.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        posts = runner.run(_post_all(args))
    args.out.write_text("\n".join(map(json.dumps, posts)))


if __name__ == "__main__":
    main()
