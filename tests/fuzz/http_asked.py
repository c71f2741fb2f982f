"""What is asked of intake over HTTP, and what must hold of each request: one answer, never a server error, as the OpenAPI document
describes it; nobody's data in a refusal; one kept record for each authenticated, complete message, and none otherwise.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup

from services.runtime import metrics
from tests import canaries
from tests.fuzz.http_bodies import Way, ways
from tests.fuzz.http_served import Served
from tests.intake.described import assert_described
from tests.intake.running import Reply

NOTHING_KEPT = {401, 405, 406, 408, 413, 415, 429, 500, 503}
"""What is answered before a message is whole, or where nothing could be promised."""


@dataclass
class Fuzzing:
    """One run against one intake. `counts`: requests by way in and status."""

    served: Served
    examples: int
    derandomize: bool = True
    number: int = 0
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    last: bytes = b""
    """What was sent last: of a finding, the smallest that shows it, for hypothesis tries that once more."""

    @cached_property
    def _operations(self) -> list[Any]:
        schema = schemathesis.openapi.from_dict(_without_conditions(self.served.document))
        return [found.ok() for found in schema.get_all_operations()]

    def targets(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Everything that can be fuzzed, by name."""
        for way in ways():
            yield f"bodies {way.name}", self._hypothesis(way.bodies, lambda body, way=way: self.send(way, body))  # type: ignore[misc]
            yield f"headers {way.name}", self._hypothesis(HEADERS, lambda told, way=way: self.send(way, b"{}", told))  # type: ignore[misc]
        for described in self._operations:
            for mode in GenerationMode if described.body.items else [GenerationMode.POSITIVE]:
                cases = described.as_strategy(generation_mode=mode)
                yield f"document {described.label} {mode.value}", self._hypothesis(cases, self.ask, share=4)

    def _hypothesis(
        self, strategy: st.SearchStrategy[Any], check: Callable[[Any], None], share: int = 1
    ) -> Callable[[], None]:
        """`share`: one for so many examples of others; a request that a document describes takes ten times longer to make."""
        quiet = [
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ]
        phases = (Phase.generate, Phase.shrink)

        @settings(
            max_examples=max(self.examples // share, 2),
            derandomize=self.derandomize,
            deadline=None,
            database=None,
            suppress_health_check=quiet,
            phases=phases,
        )
        @given(sent=strategy)
        def run(sent: Any) -> None:
            check(sent)

        return run if self.derandomize else seed(self.number)(run)

    # -- one request

    def send(self, way: Way, body: bytes, headers: Mapping[str, str] = {}) -> None:
        """One body by its own partner, where `headers` say nothing else."""
        ids = {"X-Request-Id": str(uuid4()), "X-Correlation-Id": str(uuid4())}
        headers = {"Content-Type": way.media_type, **ids, **self.served.authorization(way.sender), **headers}
        self.last = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n" + body
        before, counted = self.served.kept(), _counted(way.sender)
        reply = self.served.call("POST", way.path, body, headers)
        assert_described(self.served.document, "POST", way.path, reply)
        self._assert_answer(way.path, reply, before)
        if not way.is_file and reply.status not in NOTHING_KEPT:
            assert _counted(way.sender) == counted + 1, f"{way.path}: {reply.status} is not counted once"

    def ask(self, case: Any) -> None:
        """One request that the document allows, or that it does not."""
        before = self.served.kept()
        self.last = case.as_curl_command().encode("utf-8", "replace")
        headers = self.served.authorization(SENDERS.get(case.path, "hub-blaby"))
        try:
            answer = case.call_and_validate(base_url=self.served.url, headers=headers, checks=CHECKS, timeout=30)
        except FailureGroup as group:
            raise AssertionError(
                f"{case.method} {case.path}: {[type(one).__name__ for one in group.exceptions]}"
            ) from group
        told = {name.lower(): values[0] for name, values in answer.headers.items()}
        reply = Reply(answer.status_code, told, answer.content)
        dry_run = "dry-run=true" in str(answer.request.url)
        self._assert_answer(case.path, reply, before, method=case.method, dry_run=dry_run)

    def _assert_answer(
        self, path: str, reply: Reply, before: tuple[int, int], *, method: str = "POST", dry_run: bool = False
    ) -> None:
        self.counts[path, reply.status] += 1
        assert reply.status < 500, f"{path}: {reply.status}"
        assert not _tells_of_somebody(reply), f"{path}: {reply.status} repeats what was sent"
        messages, files = (now - then for now, then in zip(self.served.kept(), before, strict=True))
        takes = method == "POST" and path.startswith(("/fhir/$process-message", "/hl7v2", "/forms/", "/councils/"))
        is_kept = takes and reply.status not in NOTHING_KEPT
        if path.startswith("/councils/"):
            is_refused = b'"expected_columns"' in reply.body  # the file came to its end, and is kept as refused
            is_kept = takes and (reply.status == 200 or is_refused) and not dry_run
            assert files == is_kept, f"{path}: {reply.status}, and {files} files are kept"
        else:
            assert (messages, files) == (is_kept, 0), f"{path}: {reply.status}, and {messages} messages are kept"
        if self.served.kept()[0] > 2_000:
            self.served.empty()


schemathesis.checks.load_all_checks()
for spoken in ("application/hl7-v2", "application/hl7-v2+er7", "x-application/hl7-v2+er7", "text/csv"):
    schemathesis.serializer(spoken)(
        lambda _, value: value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
    )
CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]


_TOLD = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *(
                "X-Request-Id",
                "X-Correlation-Id",
                "traceparent",
                "Accept",
                "Content-Type",
                "Authorization",
                "Content-Encoding",
            ),
            *("NHSD-Target-Identifier", "NHSD-End-User-Organisation", "use-context", "Expect", "Cookie", "Range"),
        ]
    ),
    _TOLD
    | st.sampled_from(
        ["application/fhir+json", "text/csv", "*/*", "e30=", "W10=", "gzip", "999 000 0018", "0" * 8_000]
    ),
    max_size=6,
)
"""Headers of any printable value; what stands for line ends never reaches us as one."""


def _without_conditions(described: Any) -> Any:
    """The document without the rules of a form that join fields (if, else): schemathesis makes no requests of so many.

    tests/contract/translators/test_form_answers.py makes them.
    """
    if isinstance(described, list):
        return [_without_conditions(one) for one in described]
    if not isinstance(described, dict):
        return described
    left_out = ("if", "else") if "if" in described and "additionalProperties" in described else ()
    return {name: _without_conditions(one) for name, one in described.items() if name not in left_out}


def _counted(partner: str) -> float:
    """Messages of a partner that the metrics count."""
    samples = (sample for metric in metrics.MESSAGES.collect() for sample in metric.samples)
    return sum(one.value for one in samples if one.name.endswith("_total") and one.labels["partner"] == partner)


def _tells_of_somebody(reply: Reply) -> bool:
    """True where an answer that refuses holds what our people are known by. HL7 v2 repeats the sender's own header: MSH and MSA."""
    lines = reply.body.decode("utf-8", "replace").splitlines()
    own = [line for line in lines if not line.startswith(("MSH", "MSA"))]
    return reply.status >= 400 and bool(canaries.PERSONAL.search("\n".join(own)))


SENDERS = {way.path: way.sender for way in ways()}
"""Whose credential is shown at an address; at others a hub's, which may read."""
