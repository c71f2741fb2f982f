"""Post referrals over a number of connections, and receive their feedback, in a process whose CPU time is counted apart.

    python -m bench.load --url http://127.0.0.1:8000 --token-file T --count 2000 --connections 32 --run r1 --sink-port 8001

Messages are made first. Then it prints `ready`, waits for a line on its input, posts, waits for the first feedback of each referral
(with --sink-port), and prints its results as one line of JSON. With --sink-port, one message in fifty is sent a second time.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import uvloop

from bench.messages import messages

FHIR_JSON = "application/fhir+json; version=1.0.0"
REPEATED, LATER = 50, 100
"""One message in REPEATED is sent again, LATER posts after the first time."""

PATIENCE_SECONDS = 60.0
"""How long no feedback may come before those that are missing are lost."""


class PreparedRequest(NamedTuple):
    """A message with its HTTP request; `bundle` is the id that its feedback names."""

    correlation_id: str
    bundle: str
    content: bytes


class Post(NamedTuple):
    """A request that was answered. `at` is in seconds since the epoch, `took` in seconds."""

    request: PreparedRequest
    status: int
    at: float
    took: float


@dataclass
class Results:
    """What was sent and received."""

    posts: list[Post] = field(default_factory=list)
    feedback: dict[str, float] = field(default_factory=dict)
    """The time of a referral's first feedback, by its Bundle."""

    feedbacks: int = 0


class _Exchange(asyncio.Protocol):
    """A keep-alive connection that receives whole HTTP/1.1 messages."""

    _LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            found = self._LENGTH.search(self._received, 0, end + 2)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < whole:
                return
            message, self._received = self._received[:whole], self._received[whole:]
            self.on_message(message)

    def on_message(self, message: bytes) -> None:
        raise NotImplementedError


class _Sender(_Exchange):
    """Posts one request after the other, until there are none."""

    def __init__(self, requests: Iterator[PreparedRequest], results: Results) -> None:
        super().__init__()
        self._requests, self._results = requests, results
        self.ended = asyncio.get_running_loop().create_future()

    def send_next(self) -> None:
        following = next(self._requests, None)
        if following is None:
            self.ended.set_result(None)
            self.transport.close()
            return
        self._request, self._at = following, time.time()
        self.transport.write(following.content)

    def on_message(self, message: bytes) -> None:
        self._results.posts.append(Post(self._request, int(message[9:12]), self._at, time.time() - self._at))
        self.send_next()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError("the connection was closed"))


class _Sink(_Exchange):
    """Accepts feedback."""

    _RESPONSE = re.compile(rb'"response"\s*:\s*\{[^{}]*?"identifier"\s*:\s*"([^"]+)"')

    def __init__(self, results: Results) -> None:
        super().__init__()
        self._results = results

    def on_message(self, message: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self._results.feedbacks += 1
        if found := self._RESPONSE.search(message):
            self._results.feedback.setdefault(found[1].decode(), time.time())


def _requests(args: argparse.Namespace) -> list[PreparedRequest]:
    """Return the requests in the order in which they are sent."""
    to = urlsplit(args.url)
    token = args.token_file.read_text().strip()
    fixed = {"Host": to.netloc, "Content-Type": FHIR_JSON, "Accept": FHIR_JSON, "Authorization": f"Bearer {token}"}
    head = "POST /fhir/$process-message HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
    ordered: list[tuple[int, PreparedRequest]] = []
    for at, one in enumerate(messages(args.count, args.run, varied=True)):
        message = json.loads(one.body)
        ids = f"X-Request-Id: {one.request_id}\r\nX-Correlation-Id: {one.correlation_id}\r\n"
        ids += f"NHSD-Target-Identifier: {_target(message)}\r\n"
        content = f"{head}{ids}Content-Length: {len(one.body)}\r\n\r\n".encode() + one.body
        request = PreparedRequest(one.correlation_id, str(message["id"]), content)
        ordered.append((at, request))
        if args.sink_port and at % REPEATED == 1:
            ordered.append((at + LATER, request))
    return [request for _, request in sorted(ordered, key=lambda one: one[0])]


def _target(message: Any) -> str:
    """Return the header that names the destination of a message."""
    system, _, value = message["entry"][0]["resource"]["destination"][0]["endpoint"].partition("|")
    return b64encode(json.dumps({"system": system, "value": value}).encode()).decode()


async def _run(args: argparse.Namespace) -> dict[str, Any]:
    requests = _requests(args)
    results, loop = Results(), asyncio.get_running_loop()
    if args.sink_port:
        await loop.create_server(lambda: _Sink(results), "127.0.0.1", args.sink_port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.readline)
    spent = time.process_time()
    await _post_all(args, iter(requests), results)
    if args.sink_port:
        await _until_told(args.count, results)
    if args.out:
        posts = [
            {"id": one.request.correlation_id, "status": one.status, "at": one.at, "took": one.took}
            for one in results.posts
        ]
        args.out.write_text("\n".join(map(json.dumps, posts)))
    return _summary(args, results, time.process_time() - spent)


async def _post_all(args: argparse.Namespace, requests: Iterator[PreparedRequest], results: Results) -> None:
    to, loop = urlsplit(args.url), asyncio.get_running_loop()
    senders = []
    for _ in range(args.connections):
        _, sender = await loop.create_connection(lambda: _Sender(requests, results), to.hostname, to.port)
        senders.append(sender)
    for sender in senders:
        sender.send_next()
    await asyncio.gather(*(sender.ended for sender in senders))


async def _until_told(count: int, results: Results) -> None:
    number, since = 0, time.monotonic()
    while len(results.feedback) < count and time.monotonic() - since < PATIENCE_SECONDS:
        if len(results.feedback) > number:
            number, since = len(results.feedback), time.monotonic()
        await asyncio.sleep(0.01)


def _summary(args: argparse.Namespace, results: Results, cpu: float) -> dict[str, Any]:
    first: dict[str, float] = {}
    for post in results.posts:
        first.setdefault(post.request.bundle, post.at)
    ended = max([*results.feedback.values(), *(post.at + post.took for post in results.posts)])
    waits = [results.feedback[bundle] - at for bundle, at in first.items() if bundle in results.feedback]
    return {
        "count": args.count,
        "seconds": ended - min(first.values()),
        "post_ms": in_milliseconds([post.took for post in results.posts]),
        "feedback_ms": in_milliseconds(waits),
        "lost": args.count - len(waits),
        "repeated": results.feedbacks - len(waits),
        "statuses": Counter(post.status for post in results.posts),
        "cpu": cpu,
    }


def in_milliseconds(seconds: Sequence[float]) -> list[float]:
    """Return the median, the 99th percentile and the greatest of these times."""
    return [round(percentile(seconds, share) * 1000, 1) for share in (0.5, 0.99, 1)]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed; NaN if there is none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def main() -> None:
    """Post the referrals, then print the results."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--url", required=True)
    reader.add_argument("--token-file", type=Path, required=True)
    reader.add_argument("--count", type=int, required=True)
    reader.add_argument("--connections", type=int, required=True)
    reader.add_argument("--run", required=True, help="ids differ between runs of different names")
    reader.add_argument("--sink-port", type=int)
    reader.add_argument("--out", type=Path, help="file for every post, one JSON a line")
    sys.stdout.write(json.dumps(uvloop.run(_run(reader.parse_args()))) + "\n")


if __name__ == "__main__":
    main()
