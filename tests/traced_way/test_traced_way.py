"""Hold the table "Files and functions on the way" of docs/architecture.md to what three messages enter."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import uvloop
from pydantic import TypeAdapter

from infra.local import installation
from infra.local.embedded import ports_and_secrets
from infra.local.embedded.providers import Provided
from schemas import nhs_number, topics
from services.intake.http import messages
from services.intake.mllp.server import Connection
from services.messaging import relay, resubmit
from services.notifier.channels.fhir_endpoint import FhirEndpoint
from services.reference import directory
from services.router.decide import assignment, disclosure, progress
from services.runtime.backlog import BacklogMonitor
from services.runtime.settings import CHECKOUT, Settings
from services.runtime.watchdog import Watchdog
from tests.house import measure
from tests.traced_way import journeys
from tests.traced_way.call_recorder import CallRecorder, Function

Entered = dict[str, set[Function]]


@pytest.fixture(scope="module")
def entered(database: str, kafka_provided: Provided, tmp_path_factory: pytest.TempPathFactory) -> Entered:
    """Return what each message enters, by journey."""
    folder = tmp_path_factory.mktemp("traced")
    ports_and_secrets.secret(folder / "secret")
    settings = Settings(
        database=database,
        kafka=kafka_provided.address,
        kafka_idempotent=kafka_provided.is_idempotent,
        secret_file=folder / "secret",
        stall_seconds=3600,  # a stalled service would end this process
    )
    installation.prepare(database, settings.kafka, settings.directory, replication=1)
    declared = topics.declared([hub.id for hub in directory.load(settings.directory).hubs])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(journeys.trace(settings, declared, folder))


@pytest.mark.parametrize("journey", journeys.JOURNEYS)
def test_a_message_enters_as_many_files_and_functions_as_the_page_states(entered: Entered, journey: str) -> None:
    found = measure.JourneyFigures(len({function.file for function in entered[journey]}), len(entered[journey]))
    stated = measure.journey_figures().get(journey)
    assert found == stated, (
        f"docs/architecture.md states {stated}. If a figure grew, shorten the way or state why in the commit; if it shrank, lower it"
        f" to\n| {journey} | {found.files} | {found.functions} |\n{_listed(entered[journey])}"
    )


def _listed(entered: set[Function]) -> str:
    by_file: dict[str, list[str]] = defaultdict(list)
    for function in sorted(entered):
        by_file[function.file].append(function.name)
    return "\n".join(f"{file}: {', '.join(names)}" for file, names in by_file.items())


@pytest.mark.parametrize(
    ("journey", "functions"),
    [
        (journeys.REFERRAL, [messages.bars_message, assignment.assign, FhirEndpoint.deliver]),
        (journeys.FRAME, [Connection.run, assignment.assign, disclosure.hub_event]),
        (journeys.COMMAND, [progress.accept, disclosure.hub_event, FhirEndpoint.deliver]),
    ],
)
def test_a_message_is_recorded_from_its_first_service_to_its_last(
    entered: Entered, journey: str, functions: list[Callable[..., Any]]
) -> None:
    assert {_named(function) for function in functions} <= entered[journey]


def test_the_notifier_is_not_on_the_way_to_a_hub(entered: Entered) -> None:
    assert not [function for function in entered[journeys.FRAME] if function.file.startswith("services/notifier/")]


@pytest.mark.parametrize("function", [relay.lock_shards, resubmit.ready, Watchdog.check, BacklogMonitor.poll])
def test_what_runs_without_a_message_is_not_recorded(entered: Entered, function: Callable[..., Any]) -> None:
    assert all(entered.values())
    assert _named(function) not in set().union(*entered.values())


# ---- the recorder ----------------------------------------------------------------------------------------------------

NUMBER = "9990000026"
IS_VALID = Function("schemas/nhs_number.py", "is_valid")


def test_a_call_is_recorded_by_file_and_name() -> None:
    with CallRecorder() as recorder, recorder.recording() as entered:
        nhs_number.is_valid(NUMBER)
    assert IS_VALID in entered


def test_a_call_in_another_thread_is_recorded() -> None:
    with CallRecorder() as recorder, recorder.recording() as entered:
        thread = Thread(target=nhs_number.is_valid, args=[NUMBER])
        thread.start()
        thread.join()
    assert IS_VALID in entered


def test_a_call_after_the_recording_is_not_recorded() -> None:
    with CallRecorder() as recorder:
        with recorder.recording() as entered:
            pass
        nhs_number.is_valid(NUMBER)
    assert entered == set()


def test_a_known_function_is_not_recorded_but_its_caller_is() -> None:
    with CallRecorder() as recorder, recorder.recording(known={IS_VALID}) as entered:
        TypeAdapter(nhs_number.NhsNumber).validate_python(NUMBER)
    assert {function.name for function in entered} == {"_checked", "normalise"}


def test_what_a_left_out_file_calls_is_not_recorded() -> None:
    with CallRecorder() as recorder, recorder.recording(left_out=["tests/traced_way/"]) as entered:
        nhs_number.is_valid(NUMBER)
    assert entered == set()


def _named(function: Callable[..., Any]) -> Function:
    code = function.__code__
    return Function(code.co_filename.removeprefix(f"{CHECKOUT}/"), code.co_qualname)
