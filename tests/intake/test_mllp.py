"""HL7 v2 over MLLP, on real sockets: every whole message is answered in order, half a message never, and nobody waits for ever."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection, Translated
from services.runtime import database, metrics
from services.runtime.process import CannotListen
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.fake_hl7_engine import (
    SECONDS,
    TRANSLATE,
    Engine,
    Wards,
    acknowledged,
    agreed,
    framed,
    until_in_hand,
)
from tests.intake.proxy import Wire
from tests.intake.running import Installation, published, rows, stored_messages

SHORT = 0.3


@pytest.fixture
async def wards(installation: Installation, engine: AsyncEngine) -> AsyncIterator[Wards]:
    async with Wards(installation, engine, max_body_bytes=20_000) as running:
        yield running


async def kept(engine: AsyncEngine) -> list[tuple[str, bytes]]:
    return [(row.verdict, row.body) for row in await stored_messages(engine)]


async def is_usable(connection: Engine) -> bool:
    return acknowledged(await connection.send(a_ref_i12()))[0] == "AA"


def open_now() -> float | None:
    return metrics.REGISTRY.get_sample_value("lightbulb_mllp_connections", {"partner": "uhl"})


async def test_open_connections_are_counted_until_they_end_in_any_way(wards: Wards) -> None:
    before = open_now() or 0
    well, badly = await wards.connect(), await wards.connect()
    assert await is_usable(well)
    assert await is_usable(badly)
    assert open_now() == before + 2
    well.close()
    await badly.write(framed(a_ref_i12())[:-3])
    badly.writer.write_eof()
    async with asyncio.timeout(SECONDS):
        while open_now() != before:
            await asyncio.sleep(0.01)


# ---- frames ---------------------------------------------------------------------------------------------------------


async def test_a_referral_is_stored_byte_for_byte_and_answered_with_its_reference(
    wards: Wards, engine: AsyncEngine
) -> None:
    message = a_ref_i12(id="42")
    answer = await (await wards.connect()).send(message)
    (row,) = await stored_messages(engine)
    assert (row.partner, row.format, row.body, row.response_status) == ("uhl", "hl7v2", message, 200)
    assert f"MSA|AA|42|{row.reference}\r" in answer
    assert row.answer == framed(answer.encode())
    assert len(await published(engine)) == 1


async def test_a_frame_that_arrives_byte_by_byte_is_one_message(wards: Wards, engine: AsyncEngine) -> None:
    connection, message = await wards.connect(), a_ref_i12()
    connection.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in framed(message):
        await connection.write(bytes([byte]))
        await asyncio.sleep(0)
    assert acknowledged(await connection.answer())[0] == "AA"
    assert await kept(engine) == [("received", message)]


async def test_many_messages_in_one_packet_are_answered_in_order(wards: Wards, engine: AsyncEngine) -> None:
    connection = await wards.connect()
    messages = [a_ref_i12(id=f"m{number}") for number in range(20)]
    await connection.write(b"".join(map(framed, messages)))
    answers = [await connection.answer() for _ in messages]
    assert [answer.split("MSA|AA|")[1].split("|")[0] for answer in answers] == [f"m{number}" for number in range(20)]
    assert [body for _, body in await kept(engine)] == messages


async def test_the_next_message_is_read_only_when_the_first_answer_is_written(
    wards: Wards, engine: AsyncEngine
) -> None:
    connection = await wards.connect()
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.referral in access exclusive mode")
        await connection.write(framed(a_ref_i12()) + framed(a_ref_i12()))
        await until_in_hand(engine)
        assert await rows(engine, "select 1 from intake.message") == []
        assert wards.batching._waiting == []
    assert [acknowledged(await connection.answer())[0] for _ in range(2)] == ["AA", "AA"]


async def test_a_new_start_of_frame_discards_the_bytes_before_it(wards: Wards, engine: AsyncEngine) -> None:
    connection, message = await wards.connect(), a_ref_i12()
    await connection.write(b"\x0b" + a_ref_i12()[:60] + framed(message))
    assert acknowledged(await connection.answer())[0] == "AA"
    assert await kept(engine) == [("received", message)]


async def test_an_incomplete_frame_is_never_accepted(wards: Wards, engine: AsyncEngine) -> None:
    told = {"partner": "uhl", "outcome": "incomplete_frame"}
    before = metrics.REGISTRY.get_sample_value("lightbulb_mllp_messages_total", told) or 0
    for lacks in (2, 3, 100):
        connection = await wards.connect()
        await connection.write(framed(a_ref_i12())[:-lacks])
        connection.writer.write_eof()
        assert await connection.rest() == b""
    assert await kept(engine) == []
    assert wards.happened("incomplete_frame") == 3
    assert metrics.REGISTRY.get_sample_value("lightbulb_mllp_messages_total", told) == before + 3


async def test_a_half_closed_sender_still_gets_its_answers(wards: Wards) -> None:
    connection = await wards.connect()
    await connection.write(framed(a_ref_i12(id="1")) + framed(a_ref_i12(id="2"))[:-1])
    connection.writer.write_eof()
    answered = await connection.rest()
    assert (answered.count(b"MSA|AA|1|"), answered.count(b"MSA|AA|2|")) == (1, 1)


async def test_a_sender_that_omits_the_last_cr_and_waits_is_answered(
    wards: Wards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETURN_SECONDS", 0.05)
    connection = await wards.connect()
    for _ in range(2):
        await connection.write(framed(a_ref_i12())[:-1])
        assert acknowledged(await connection.answer())[0] == "AA"


async def test_a_message_above_the_limit_is_rejected_with_its_own_id_and_the_connection_stays_open(
    wards: Wards, engine: AsyncEngine
) -> None:
    connection = await wards.connect()
    answer = await connection.send(a_ref_i12(id="large", note="x" * 200_000, version="2.5"))
    assert acknowledged(answer) == ("AR", "larger than 20000 bytes")
    assert "MSA|AR|large|" in answer
    assert "ERR||MSH^1|207^" in answer
    assert await is_usable(connection)
    assert [verdict for verdict, _ in await kept(engine)] == ["received"]


async def test_bytes_outside_frames_are_skipped_up_to_a_limit(wards: Wards, engine: AsyncEngine) -> None:
    connection = await wards.connect()
    await connection.write(b"\r\n" + b"x" * 1_000)
    assert await is_usable(connection)
    await connection.write(b"GET / HTTP/1.1\r\n" * 100)
    assert await connection.rest() == b""
    assert wards.happened("not_mllp") == 1


# ---- limits ---------------------------------------------------------------------------------------------------------


async def test_a_frame_that_takes_too_long_times_out_even_if_it_restarts(
    wards: Wards, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FRAME_SECONDS", SHORT)
    for sent in ([b"\x0bMSH|"], [b"\x0bMSH|"] * 1_000, [b"\x0bMSH|", b"x" * 30_000]):
        assert await trickled(await wards.connect(), sent) == b""
    assert wards.happened("frame_timeout") == 3
    assert await kept(engine) == []


async def trickled(connection: Engine, pieces: list[bytes]) -> bytes:
    """Pieces that come slowly, and what is answered to them."""

    async def trickle() -> None:
        for piece in pieces:
            await connection.write(piece)
            await asyncio.sleep(SHORT / 5)

    trickling = asyncio.create_task(trickle())
    try:
        return await connection.rest()
    finally:
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


async def test_a_connection_without_a_frame_is_closed(wards: Wards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_SECONDS", SHORT)
    for sent in ([], [b"\r\n"] * 1_000):
        connection = await wards.connect()
        assert await is_usable(connection)
        assert await trickled(connection, sent) == b""
    assert wards.happened("idle_timeout") == 2


async def test_a_partner_may_have_its_own_idle_time(
    installation: Installation, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IDLE_SECONDS", SHORT)
    async with Wards(agreed(installation, uhl={"idle_seconds": 3_600}), engine) as wards:
        long, short = await wards.connect(), await wards.connect("lpt")
        assert await short.rest() == b""
        assert (wards.happened("idle_timeout", "lpt"), wards.happened("idle_timeout")) == (1, 0)
        assert await is_usable(long)


async def test_an_internal_error_is_rejected_with_a_text_that_promises_nothing_and_a_passing_one_is_not_answered(
    wards: Wards, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: object) -> None:
        raise errors.pop()

    errors = [MemoryError(), RuntimeError("planted")]
    connection = await wards.connect()
    with monkeypatch.context() as patched:
        patched.setattr(wards.intake.group_commit, "submit", fails)
        answer = await connection.send(a_ref_i12(id="42"))
        await connection.write(framed(a_ref_i12(id="43")))
        assert await connection.rest() == b""
    assert "MSA|AR|42|internal error; the message was not accepted, retry later" in answer
    assert await kept(engine) == []


async def test_at_the_connection_limit_the_longest_idle_connection_is_closed(
    wards: Wards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    first, second = await wards.connect(), await wards.connect()
    assert await is_usable(first)
    assert await is_usable(second)
    await first.write(b"\x0bhalf a frame")
    third = await wards.connect()
    assert await first.rest() == b""
    assert await is_usable(third)
    assert await is_usable(second)
    assert await is_usable(await wards.connect("lpt"))
    assert wards.happened("evicted_idle") == 1


async def test_at_the_connection_limit_a_new_connection_is_closed_if_all_are_in_use(
    wards: Wards, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    taken = [await wards.connect(), await wards.connect()]
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.message in access exclusive mode")
        for one in taken:
            await one.write(framed(a_ref_i12()))
        async with asyncio.timeout(SECONDS):
            while sum(connection.is_in_flight for connection in wards.mllp._connections) < 2:
                await asyncio.sleep(0.01)
        assert await (await wards.connect()).rest() == b""
    assert [acknowledged(await one.answer())[0] for one in taken] == ["AA", "AA"]
    assert wards.happened("too_many_connections") == 1


async def test_a_sender_that_reads_no_answers_times_out(wards: Wards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WRITE_SECONDS", SHORT)
    taker = socket.socket()
    taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    taker.setblocking(False)
    await asyncio.get_running_loop().sock_connect(taker, ("127.0.0.1", wards.ports["uhl"]))
    large = framed(a_ref_i12(id="i" * 6_000, note="x" * 20_000))
    sending = asyncio.create_task(_send_on(taker, large))
    async with asyncio.timeout(SECONDS):
        while not wards.happened("client_disconnected"):
            await asyncio.sleep(0.02)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    taker.close()
    assert wards.happened("client_disconnected")


async def _send_on(taker: socket.socket, message: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(taker, message)


# ---- acknowledgements -----------------------------------------------------------------------------------------------


async def test_the_requested_acknowledgements_come_back(wards: Wards, engine: AsyncEngine) -> None:
    """test_hl7v2_answers.py has the whole table."""
    connection = await wards.connect()
    for accept, application, good, bad in (
        ("", "", ["AA"], ["AE"]),
        ("AL", "AL", ["CA", "AA"], ["CE"]),
        ("NE", "NE", [], []),
        ("ER", "NE", [], ["CE"]),
    ):
        for without, codes in (("", good), ("PID", bad)):
            message = a_ref_i12(accept=accept, application=application, without=without)
            await connection.write(framed(message) + framed(a_ref_i12(id="next")))
            answers = [await connection.answer() for _ in [*codes, "next"]]
            assert [acknowledged(answer)[0] for answer in answers] == [*codes, "AA"]
            assert "MSA|AA|next|" in answers[-1]
    assert len(await kept(engine)) == 16


async def test_a_partner_registered_for_rri_gets_one(wards: Wards) -> None:
    connection = await wards.connect("lpt")
    answer = await connection.send(a_ref_i12(referral_id="REF001"))
    assert "|RRI^I12|" in answer
    assert f"RF1|P|||||REF001|||||{acknowledged(answer)[1]}^LIGHTBULB\r" in answer


REFUSED = [
    (a_ref_i12().replace(b"REF^I12", b"ORU^R01"), "AR", "MSH^1^9^200&"),
    (a_ref_i12(trigger="I15"), "AR", "MSH^1^9^201&"),
    (a_ref_i12(version="2.9"), "AR", "203^"),
    (a_ref_i12(without="PID"), "AE", "PID^1^^101&"),
    (a_ref_i12(without="MSH"), "AR", "MSH^1^^102&"),
    (b"\x00\xff\xfe", "AR", "MSH^1^^102&"),
]


async def test_a_rejected_message_is_recorded_and_the_connection_stays_open(wards: Wards, engine: AsyncEngine) -> None:
    connection = await wards.connect()
    for body, code, error in REFUSED:
        answer = await connection.send(body)
        assert acknowledged(answer)[0] == code
        assert error in answer
        assert await is_usable(connection)
    assert [body for verdict, body in await kept(engine) if verdict == "refused"] == [body for body, _, _ in REFUSED]


@pytest.mark.parametrize("empty", [framed(b""), framed(b"\x06"), framed(b"\r\n"), b"\x0b\x06\x1c"])
async def test_a_frame_without_a_message_is_not_answered(wards: Wards, engine: AsyncEngine, empty: bytes) -> None:
    connection = await wards.connect()
    await connection.write(empty)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * limits.RETURN_SECONDS):
            await connection.answer()
    assert acknowledged(await connection.send(a_ref_i12(id="next")))[0] == "AA"
    assert [verdict for verdict, _ in await kept(engine)] == ["received"]


async def test_a_repeat_is_accepted_again_with_the_same_reference(wards: Wards, engine: AsyncEngine) -> None:
    connection, message = await wards.connect(), a_ref_i12()
    first, again = await connection.send(message), await connection.send(message)
    assert acknowledged(first) == acknowledged(again)
    assert [verdict for verdict, _ in await kept(engine)] == ["received", "duplicate"]
    assert len(await published(engine)) == 1


async def test_a_known_referral_is_updated_and_cancelled_and_an_unknown_one_is_not(
    wards: Wards, engine: AsyncEngine
) -> None:
    connection = await wards.connect()
    who = {"referral_id": "r-1", "number": "9990000018"}
    sent = [
        a_ref_i12(**who),
        a_ref_i12(**who, note="another story"),
        a_ref_i12(**who, trigger="I13", note="one more story", made_at="20261105110000"),
        a_ref_i12(**who, trigger="I13", note="an older story", made_at="20261105100000"),
        a_ref_i12(referral_id="r-1", trigger="I14", status="R", made_at="20261105120000"),
        a_ref_i12(referral_id="r-2", trigger="I14", status="R"),
        a_ref_i12(**who, trigger="I13", note="a last story", made_at="20261105130000"),
    ]
    answers = [await connection.send(message) for message in sent]
    reference = acknowledged(answers[0])[1]
    assert [acknowledged(answer)[0] for answer in answers] == ["AA", "AA", "AA", "AA", "AA", "AE", "AE"]
    assert acknowledged(answers[3])[1] == f"{reference} superseded by a later message"
    assert "RF1^1^6^204&" in answers[5]
    assert "RF1^1^6^207&" in answers[6]
    verdicts = [verdict for verdict, _ in await kept(engine)]
    assert verdicts == ["received", "updated", "updated", "stale", "cancelled", "unknown", "after-cancel"]


async def test_partners_do_not_share_referrals(wards: Wards) -> None:
    message = a_ref_i12(referral_id="r-1")
    one = await (await wards.connect("uhl")).send(message)
    other = await (await wards.connect("lpt")).send(message)
    assert acknowledged(one)[1] != acknowledged(other)[1]


# ---- what may go wrong ----------------------------------------------------------------------------------------------


async def test_a_database_outage_closes_without_an_answer_and_the_retry_is_accepted_once(
    installation: Installation, database_url: str, engine: AsyncEngine
) -> None:
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with Wards(installation, through) as wards:
            await wire.cut()
            connection, message = await wards.connect(), a_ref_i12()
            await connection.write(framed(message))
            assert await connection.rest() == b""
            assert wards.happened("unavailable") == 1
            await wire.mend()
            assert await kept(engine) == []
            assert await sent_until_answered(wards, message) == "AA"
            assert await kept(engine) == [("received", message)]
        await through.dispose()


async def sent_until_answered(wards: Wards, message: bytes) -> str:
    """As an engine does: again, on a new connection, until there is an answer."""
    for _ in range(20):
        connection = await wards.connect()
        await connection.write(framed(message))
        connection.writer.write_eof()
        if answered := await connection.rest():
            return acknowledged(answered[1:-2].decode())[0]
    return "no answer"


async def test_a_commit_whose_answer_is_lost_is_not_acknowledged_and_the_retry_is_a_repeat(
    installation: Installation, database_url: str, engine: AsyncEngine
) -> None:
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with Wards(installation, through) as wards:
            wire.drops_the_answer_to_commit = True
            connection, message = await wards.connect(), a_ref_i12()
            await connection.write(framed(message))
            assert await connection.rest() == b""
            assert wire.dropped == 1
            wire.drops_the_answer_to_commit = False
            assert await sent_until_answered(wards, message) == "AA"
            assert [verdict for verdict, _ in await kept(engine)] == ["received", "duplicate"]
            assert len(await published(engine)) == 1
        await through.dispose()


async def test_a_blocked_database_times_out_at_the_limit(
    wards: Wards, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MLLP_ANSWER_SECONDS", SHORT)
    connection = await wards.connect()
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.referral in access exclusive mode")
        await connection.write(framed(a_ref_i12()))
        assert await connection.rest() == b""


async def test_a_sender_that_disconnects_before_its_answer_affects_no_other(wards: Wards, engine: AsyncEngine) -> None:
    connection, message = await wards.connect(), a_ref_i12()
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.referral in access exclusive mode")
        await connection.write(framed(message))
        await until_in_hand(engine)
        connection.writer.transport.abort()
    assert await sent_until_answered(wards, message) == "AA"
    assert [verdict for verdict, _ in await kept(engine)] == ["received", "duplicate"]


async def test_an_internal_error_is_a_rejection_and_the_next_message_is_accepted(
    installation: Installation, engine: AsyncEngine
) -> None:
    def translate(delivery: InboundMessage) -> Translated | Rejection:
        if b"|bad|" in delivery.body:
            raise RuntimeError("a translator never raises")
        return TRANSLATE(delivery)

    async with Wards(installation, engine, translate) as wards:
        connection = await wards.connect()
        answer = await connection.send(a_ref_i12(id="bad"))
        assert acknowledged(answer)[0] == "AR"
        assert "207&" in answer
        assert await is_usable(connection)


async def test_a_stop_answers_messages_in_flight_and_closes_idle_connections(
    installation: Installation, engine: AsyncEngine
) -> None:
    async with Wards(installation, engine) as wards:
        idle, busy, half = [await wards.connect() for _ in range(3)]
        await half.write(framed(a_ref_i12())[:40])
        async with engine.begin() as holder:
            await holder.exec_driver_sql("lock table intake.referral in access exclusive mode")
            await busy.write(framed(a_ref_i12(id="1")) + framed(a_ref_i12(id="2")))
            await until_in_hand(engine)
            stopping = asyncio.create_task(wards.mllp.stop())
            assert await idle.rest() == b""
            assert await half.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await wards.connect()
        assert "MSA|AA|1|" in await busy.answer()
        await stopping
        assert await busy.rest() == b""
    assert len(await kept(engine)) == 1


async def test_a_stop_waits_up_to_its_limit(
    installation: Installation, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STOP_SECONDS", SHORT)
    async with Wards(installation, engine) as wards:
        connection = await wards.connect()
        async with engine.begin() as holder:
            await holder.exec_driver_sql("lock table intake.referral in access exclusive mode")
            await connection.write(framed(a_ref_i12()))
            await until_in_hand(engine)
            async with asyncio.timeout(SECONDS):
                await wards.mllp.stop()
            assert await connection.rest() == b""


# ---- who connects ---------------------------------------------------------------------------------------------------


async def test_a_port_is_closed_to_other_networks_and_reads_none_of_their_bytes(
    installation: Installation, engine: AsyncEngine
) -> None:
    async with Wards(installation, engine, access={"uhl": {"mllp_from": ["192.0.2.0/24"]}}) as wards:
        connection = await wards.connect()
        await connection.write(framed(a_ref_i12()))
        assert await connection.rest() == b""
        assert wards.happened("no_credential", "unknown") == 1
        assert await is_usable(await wards.connect("lpt"))
    assert len(await kept(engine)) == 1


async def test_a_port_in_use_is_named(installation: Installation, engine: AsyncEngine) -> None:
    wards = Wards(installation, engine)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", wards.ports["lpt"]))
        taken.listen()
        with pytest.raises(CannotListen, match=f"port {wards.ports['lpt']}: Address already in use"):
            await wards.mllp.open(wards.settings)
    await wards.mllp.stop()


# ---- whatever comes -------------------------------------------------------------------------------------------------

pieces = st.lists(
    st.binary(max_size=80)
    | st.binary(max_size=80).map(framed)
    | st.sampled_from([framed(a_ref_i12())[:100], framed(a_ref_i12()), b"\x0b", b"\x1c\r", framed(b"MSH|^~\\&|" * 9)]),
    max_size=8,
)


@given(sent=st.lists(pieces, min_size=1, max_size=6))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_bytes_are_answered_or_the_connection_closed_and_the_next_message_is_accepted(
    installation: Installation, sent: list[list[bytes]]
) -> None:
    async def each() -> None:
        engine = database.connect(installation.database)
        async with Wards(installation, engine) as wards:
            for parts in sent:
                await one(wards, b"".join(parts))
            assert await is_usable(await wards.connect())
        await engine.dispose()

    async def one(wards: Wards, data: bytes) -> None:
        connection = await wards.connect()
        await connection.write(data + framed(a_ref_i12(id="last")))
        connection.writer.write_eof()
        answered = (await connection.rest()).split(b"\x1c\r")
        assert answered[-1] == b""
        assert all(frame.startswith(b"\x0bMSH|") for frame in answered[:-1])
        assert b"\rMSA|AA|last|" in answered[-2]

    asyncio.run(each())
