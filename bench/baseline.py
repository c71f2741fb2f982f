"""Measure what this machine can do at all, to compare the benchmark's figures with.

python -m bench.baseline serve PORT # an ASGI application that only reads the body and answers
"""

import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from bench.messages import TEMPLATE
from infra.local.embedded import ports_and_secrets


@dataclass(frozen=True)
class MachineBaseline:
    """`bare_posts`: POST/s of an empty ASGI application under the same load.

    `check`: microseconds of fhir.resources for a message.
    """

    bare_posts: float
    check: float


def measure(work: Path, connections: int) -> MachineBaseline:
    """Measure both, in a few seconds."""
    return MachineBaseline(_bare_posts(work, connections), _check())


def _bare_posts(work: Path, connections: int) -> float:
    [port] = ports_and_secrets.free_ports(1)
    token, out = work / "no-token", work / "bare.jsonl"
    token.write_text("none")
    server = subprocess.Popen([sys.executable, "-m", "bench.baseline", "serve", str(port)])
    try:
        while ports_and_secrets.is_free(port):
            time.sleep(0.05)
        options = [
            "--url",
            f"http://{ports_and_secrets.HOST}:{port}",
            "--token-file",
            str(token),
            "--out",
            str(out),
            "--run",
            "bare",
        ]
        load = [sys.executable, "-m", "bench.load", "--count", "4000", "--connections", str(connections)]
        subprocess.run([*load, *options], check=True)
    finally:
        server.terminate()
        server.wait(10)
    posts = [json.loads(line) for line in out.read_text().splitlines()]
    ended: float = max(post["at"] + post["took"] for post in posts)
    began: float = min(post["at"] for post in posts)
    return len(posts) / (ended - began)


def _check() -> float:
    from fhir.resources.R4B.bundle import Bundle

    message = json.loads(TEMPLATE.read_text())
    Bundle.model_validate(message)
    began = time.process_time()
    for _ in range(50):
        Bundle.model_validate(message)
    return (time.process_time() - began) / 50 * 1e6


async def _bare(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


if __name__ == "__main__":
    uvicorn.run(
        _bare, host=ports_and_secrets.HOST, port=int(sys.argv[2]), access_log=False, log_level="error", lifespan="off"
    )
