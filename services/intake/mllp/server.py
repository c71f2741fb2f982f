"""Receive HL7 v2 over MLLP: read one frame at a time, and acknowledge it before the next is read.

The partner is identified by its port or its client certificate; otherwise the connection is closed before anything is read.
If a message cannot be committed (the database is unreachable, the outcome of the commit is unknown) there is no acknowledgement and the
connection is closed: the sender's engine then sends the message again, and duplicates are recognised. A rejection (AR) would be final
for most engines: they would put the message, or their whole queue, aside until an operator intervenes.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

from services.intake import accept, limits
from services.intake.accept import Intake, Protocol
from services.intake.group_commit import Unavailable
from services.intake.mllp import access
from services.intake.mllp.access import IdentifyFeed, TlsAcceptor
from services.intake.mllp.frames import Frame, Frames, NotMllp
from services.intake.responses import hl7v2
from services.intake.translators.hl7v2 import header as headers
from services.intake.translators.inbound_message import Translator
from services.reference.partners import MllpFeed, Partner
from services.runtime import database, metrics, process
from services.runtime.logs import log
from services.runtime.process import CannotListen
from services.runtime.settings import Settings


def protocol(translate: Translator) -> Protocol:
    """Return the protocol of HL7 v2 with framed acknowledgements."""
    return Protocol("hl7v2", translate, hl7v2.over_mllp, is_about_visit=headers.is_adt)


class Closed(Exception):
    """The connection must be closed; the text is one of a few reasons, for metrics and log."""


class Mllp:
    """The MLLP listeners of one process. `counts` has the number of outcomes by partner."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.protocol = protocol(intake.hl7v2)
        self.counts: Counter[tuple[str, str]] = Counter()
        self._logged_at: dict[tuple[str, str], float] = {}
        self._servers: list[asyncio.Server | TlsAcceptor] = []
        self._connections: set[Connection] = set()
        self._sockets: list[socket.socket] = []
        self._linger = 0.0
        self._is_stopping = False

    async def open(self, chosen: Settings) -> None:
        """Open the partners' ports and the TLS port. Raises CannotListen."""
        self._linger = process.linger_of(chosen)
        tls = access.context(chosen)
        for listener in self.intake.partners.listeners():
            await self._listen(chosen.mllp_host, listener.port, access.by_port(listener))
        if chosen.mllp_tls_port is not None:
            await self._listen(chosen.mllp_host, chosen.mllp_tls_port, access.by_certificate(self.intake.partners), tls)

    async def stop(self) -> None:
        """Accept no connections, close idle ones, and answer the messages in progress for at most STOP_SECONDS."""
        await process.accept_last(self._sockets, self._linger)
        self._is_stopping = True
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.stop()
        tasks = {connection.task for connection in self._connections}
        _, unanswered = await asyncio.wait(tasks, timeout=limits.STOP_SECONDS) if tasks else (set(), set())
        for task in unanswered:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, host: str, port: int, who: IdentifyFeed, tls: ssl.SSLContext | None = None) -> None:
        open_here: defaultdict[bool, set[Connection]] = defaultdict(set)
        connected = partial(self._connected, open_here, who)
        try:
            opened = process.shared_socket(host, port)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._sockets.append(opened)
            if tls:
                self._servers.append(TlsAcceptor(opened, tls, connected))
            else:
                self._servers.append(await asyncio.start_server(connected, sock=opened, backlog=limits.BACKLOG))
        except OSError as error:
            raise CannotListen(f"MLLP on {host}, port {port}: {error.strerror}") from None
        log.info("mllp_listening", host=host, port=port, tls=tls is not None)

    async def _connected(
        self,
        open_here: "defaultdict[bool, set[Connection]]",
        who: IdentifyFeed,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Serve a connection. Feeds of ADT only are counted apart, so that they take no connection of other senders."""
        feed = who(writer)
        if feed is None or not feed.partner.may_send(self.protocol.format):
            self._reject(writer, feed.partner if feed else None, "no_credential")
            return
        mine = open_here[feed.adt_only]
        if self._is_stopping or (len(mine) >= limits.CONNECTIONS and not self._evict_idle(mine)):
            self._reject(writer, feed.partner, "too_many_connections")
            return
        connection = Connection(self, feed, reader, writer)
        with self._registered(connection, mine), metrics.MLLP_CONNECTIONS.labels(feed.partner.id).track_inprogress():
            await connection.run()

    @contextlib.contextmanager
    def _registered(self, connection: "Connection", mine: "set[Connection]") -> Iterator[None]:
        """Keep a connection in the set of its listener and in the set of all until it ends."""
        for those in (mine, self._connections):
            those.add(connection)
        try:
            yield
        finally:
            for those in (mine, self._connections):
                those.discard(connection)

    def _evict_idle(self, mine: "set[Connection]") -> bool:
        """Close the connection that has been idle longest; return False if none is idle. Its sender can connect again."""
        waiting = [connection for connection in mine if not connection.is_in_flight]
        longest = min(waiting, key=lambda connection: connection.waits_since, default=None)
        if longest is None:
            return False
        mine.discard(longest)
        self.count(longest.partner, "evicted_idle")
        longest.task.cancel()
        return True

    def _reject(self, writer: asyncio.StreamWriter, partner: Partner | None, reason: str) -> None:
        self.count(partner, reason)
        writer.transport.abort()

    def count(self, partner: Partner | None, outcome: str, *, is_worth_a_line: bool = True) -> None:
        """Count an outcome; log it with the number so far, at most once in LOG_SECONDS."""
        key = (partner.id if partner else "unknown", outcome)
        self.counts[key] += 1
        metrics.MLLP_MESSAGES.labels(*key).inc()
        now = time.monotonic()
        if is_worth_a_line and now - self._logged_at.get(key, -60.0) >= limits.LOG_SECONDS:
            self._logged_at[key] = now
            log.warning("mllp_outcome", partner=key[0], outcome=outcome, count=self.counts[key])


class Connection:
    """One connection of one partner."""

    def __init__(
        self, server: Mllp, feed: MllpFeed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._adt_only = feed.adt_only
        self.partner = feed.partner
        self._reader = reader
        self._writer = writer
        self._frames = Frames(server.intake.max_body_bytes)
        self.is_in_flight = False
        self.waits_since = time.monotonic()
        self._is_stopping = False
        task = asyncio.current_task()
        assert task is not None
        self.task = task

    async def run(self) -> None:
        """Answer messages until the sender, a limit or a stop ends the connection.

        An answer counts as written when the kernel has it; with a high-water mark of 0, TLS of asyncio and uvloop waits indefinitely.
        """
        self._writer.transport.set_write_buffer_limits(high=1, low=0)
        try:
            await self._answer_all()
        except Closed as closed:
            self._server.count(self.partner, str(closed), is_worth_a_line=str(closed) != IDLE)
        except (OSError, TimeoutError):
            self._server.count(self.partner, "client_disconnected")
            self._writer.transport.abort()
        finally:
            await self._close()

    async def _close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(limits.CLOSE_SECONDS):
                await self._writer.wait_closed()
        self._writer.transport.abort()

    def stop(self) -> None:
        """Answer the message in progress, and read no more."""
        self._is_stopping = True
        if not self.is_in_flight:
            self.task.cancel()

    async def _answer_all(self) -> None:
        while not self._is_stopping and (frame := await self._next_in_turn()):
            self.is_in_flight = True
            answer = await self._answer(frame)
            if answer is None:
                raise Closed("unavailable")
            self._writer.write(answer)
            async with asyncio.timeout(limits.WRITE_SECONDS):
                await self._writer.drain()
            self._server.count(self.partner, "answered", is_worth_a_line=False)
            self.is_in_flight = False
            self.waits_since = time.monotonic()

    # ---- read ---------------------------------------------------------------------------------------------------

    async def _next_in_turn(self) -> Frame | None:
        """Return the next frame when the partner's rate allows; what follows waits in the sender's queue."""
        frame = await self._next()
        if frame is None:
            return None
        limiter = self._server.intake.rate_limiter
        until = limiter.reserve(self.partner, adt=self._is_adt(frame))
        while seconds := limiter.pause(until):
            self._server.count(self.partner, "rate_limited")
            await asyncio.sleep(seconds)
        return frame

    def _is_adt(self, frame: Frame) -> bool:
        if self._adt_only or not self.partner.hl7v2.adt:
            return self._adt_only
        return headers.is_adt(frame.body)

    async def _next(self) -> Frame | None:
        """Return the next complete frame, or None at the end of the stream. Raises Closed, also for an incomplete frame."""
        deadlines = _FrameDeadline(self.partner.hl7v2.idle_seconds or limits.IDLE_SECONDS)
        try:
            while (frame := self._frames.take()) is None:
                data = await self._read(deadlines.deadline(self._frames))
                if data:
                    self._frames.feed(data)
                    continue
                last = self._last(is_end=data is not None)
                if last is not None or data is not None:
                    return last
        except NotMllp:
            raise Closed("not_mllp") from None
        return frame

    async def _read(self, deadline: float) -> bytes | None:
        """Return received bytes, b"" at the end of the stream, or None after the deadline."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                return await self._reader.read(65_536)
        return None

    def _last(self, *, is_end: bool) -> Frame | None:
        """Return a frame that lacks only its last CR, or None at the end of the stream. Raises Closed otherwise."""
        if self._frames.is_at_end:
            return self._frames.take(nothing_follows=True)
        if self._frames.has_begun:
            raise Closed("incomplete_frame" if is_end else "frame_timeout")
        if is_end:
            return None
        raise Closed(IDLE)

    # ---- answer -------------------------------------------------------------------------------------------------

    async def _answer(self, frame: Frame) -> bytes | None:
        """Return the acknowledgement, or None if the message may not have been committed."""
        intake = self._server.intake
        if frame.is_too_large:
            self._server.count(self.partner, "too_large")
            return self._rejection(frame, f"larger than {intake.max_body_bytes} bytes")
        try:
            async with asyncio.timeout(limits.MLLP_ANSWER_SECONDS):
                inbound = intake.inbound_message(self.partner, frame.body, None, None, adt_only=self._adt_only)
                return (await accept.accept(intake, self._server.protocol, inbound)).body
        except (Unavailable, TimeoutError):
            return None
        except Exception as error:
            if database.is_transient(error):
                return None
            log.error("request_failed", error_type=type(error).__name__, format=self._server.protocol.format)
            return self._rejection(frame, accept.INTERNAL_ERROR)

    def _rejection(self, frame: Frame, reason: str) -> bytes:
        return hl7v2.rejection_frames(self.partner, frame.body, datetime.now(UTC), reason)


IDLE = "idle_timeout"


class _FrameDeadline:
    """The deadline of the next frame: its idle time until it begins, then FRAME_SECONDS, even if it is restarted."""

    def __init__(self, idle_seconds: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._idle_until = self._now() + idle_seconds
        self._slow_at: float | None = None

    def deadline(self, frames: Frames) -> float:
        if not frames.has_begun:
            self._slow_at = None
            return self._idle_until
        if self._slow_at is None:
            self._slow_at = self._now() + limits.FRAME_SECONDS
        return min(self._slow_at, self._now() + limits.RETURN_SECONDS) if frames.is_at_end else self._slow_at
