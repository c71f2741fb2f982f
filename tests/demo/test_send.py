"""Which request a file becomes, and how its answer is read."""

import json
from pathlib import Path

import pytest

from infra import send
from infra.demo.examples import EXAMPLES
from infra.send import Letter, NotSent
from services import partners
from services.messaging.settings import CHECKOUT

KNOWN = partners.load(CHECKOUT / "infra" / "directory", None)


def a_letter(name: str, sender: str = "gp-alder-lane") -> Letter:
    partner = KNOWN.by_id(sender)
    assert partner is not None
    return send.prepare((EXAMPLES / name).read_bytes(), partner)


def test_a_bundle_goes_to_process_message_with_bars_headers() -> None:
    letter = a_letter("mrs-v.json")
    assert letter.path == "/fhir/$process-message"
    assert {"X-Request-Id", "X-Correlation-Id", "NHSD-Target-Identifier", "use-context"} <= letter.headers.keys()
    assert letter.headers["use-context"].endswith("|new")


def test_a_file_that_is_sent_again_is_the_same_request() -> None:
    assert a_letter("repeat.json").headers == a_letter("repeat.json").headers


def test_an_update_has_a_request_id_of_its_own_in_the_same_conversation() -> None:
    first, second = a_letter("update-1-new.json").headers, a_letter("update-2-changed.json").headers
    assert first["X-Request-Id"] != second["X-Request-Id"]
    assert first["X-Correlation-Id"] == second["X-Correlation-Id"]


def test_a_form_goes_to_its_senders_form() -> None:
    assert a_letter("mr-c.json", "first-contact").path == "/forms/first-contact-plus"


def test_a_bundle_that_breaks_off_is_sent_as_what_it_began_as() -> None:
    assert a_letter("unreadable.json").path == "/fhir/$process-message"


def test_a_form_of_somebody_who_sends_none_is_not_sent() -> None:
    with pytest.raises(NotSent, match="sends no forms"):
        a_letter("mr-c.json", "gp-alder-lane")


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"null", b"[1]", b'{"entry":5}', b'{"resourceType":"Bundle","entry":[{"resource":7}]}']
)
def test_any_bytes_become_a_request(body: bytes) -> None:
    partner = KNOWN.by_id("uhl")
    assert partner is not None
    assert send.prepare(body, partner).body == body


@pytest.mark.parametrize(
    ("status", "kinds", "outcome"),
    [
        (200, set(), "accepted"),
        (202, set(), "accepted"),
        (409, {"duplicate"}, "duplicate"),
        (409, {"conflict"}, "conflict"),
        (409, set(), "conflict"),
        (400, {"value"}, "refused"),
        (401, {"login"}, "not allowed"),
        (403, {"forbidden"}, "not allowed"),
        (503, {"transient"}, "unavailable"),
    ],
)
def test_answers_are_told_apart(status: int, kinds: set[str], outcome: str) -> None:
    assert send._outcome(status, kinds) == outcome


async def test_without_an_installation_the_answer_says_so(tmp_path: Path) -> None:
    addresses = {"intake": "http://127.0.0.1:9", "partners": {"gp-alder-lane": {"token": "t"}}}
    [answer] = await send.send([EXAMPLES / "mrs-v.json"], None, addresses)
    assert (answer.outcome, answer.sender, answer.accepted) == ("unavailable", "gp-alder-lane", False)


async def test_a_file_that_does_not_say_who_sends_it_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "any.json").write_text(json.dumps({"reference": "1"}))
    [answer] = await send.send([tmp_path / "any.json"], None, {"intake": "", "partners": {}})
    assert answer.outcome == "not sent"
    assert "--sender" in answer.line()
