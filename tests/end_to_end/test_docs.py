"""Pages match the code: every fenced block is run, loaded or checked; every command, setting and metric in them exists.

| block | mark above it | test |
|---|---|---|
| `sh`, `bash`, `python` | `<!-- tested -->` | runs against the walk's installation, and shows what the `text` block below it says |
| the same | `<!-- tested until its output -->` | the same for a program that runs until it is stopped |
| `sh`, `bash` | `<!-- checked -->` | its commands, targets, options and settings exist |
| `yaml`, `json` | `<!-- loaded: NAME -->` | the loader or contract of that name takes it |
| `text`, `mermaid` | | output, or a picture |
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

from infra.docgen import pages as generated_pages
from infra.partner_simulators import send
from schemas.events import ALL_TYPES
from services.intake.translators import form
from services.reference import directory, partners, yaml_files
from services.reference.partners import PartnerCredentials, PartnersFile
from services.runtime import metrics
from services.runtime.database import SERVICE_ROLES
from services.runtime.settings import CHECKOUT
from tests.end_to_end import commands, pages
from tests.end_to_end.conftest import Walk
from tests.end_to_end.pages import BLOCKS, PAGES, Block

DIRECTORY = CHECKOUT / "infra" / "reference_data"
CONTRACTS = CHECKOUT / "schemas" / "contracts"
CONNECT, OPERATE = CHECKOUT / "docs" / "connect", CHECKOUT / "docs" / "operate.md"
SECONDS = 120

RUN = [block for block in BLOCKS if block.is_run]
CHECKED = [block for block in BLOCKS if block.mark == "checked"]
LOADED = [block for block in BLOCKS if block.mark.startswith("loaded: ")]
SHELL = {"sh": ["bash", "-euc"], "bash": ["bash", "-euc"], "python": ["python", "-c"]}


def named(block: Block) -> str:
    return block.name


# ---- no block goes untested -----------------------------------------------------------------------------------------


def untested(block: Block) -> str | None:
    """Return why no test covers a block, or None."""
    if block.language in ("text", "mermaid"):
        return None
    if block.mark.startswith("loaded: "):
        return None if block.language in ("yaml", "json") else "only yaml and json are loaded"
    if block.mark not in ("tested", "tested until its output", "checked") or block.language not in SHELL:
        return "mark it as the table in this file says, or show it as `text`"
    return "show its output in a `text` block below it" if block.is_run and not block.output else None


@pytest.mark.parametrize("block", BLOCKS, ids=named)
def test_every_block_states_how_it_is_tested(block: Block) -> None:
    assert untested(block) is None


@pytest.mark.parametrize(
    "page",
    [
        "```sh\nmake demo\n```\n",
        "```\nmake demo\n```\n",
        "```yaml\nfull: []\n```\n",
        "<!-- tested -->\n\n```sh\nmake demo\n```\n\n```text\noutput\n```\n",
        "<!-- tested -->\n```sh\nmake demo\n```\n",
        "<!-- checked -->\n```ruby\nputs 1\n```\n",
        "<!-- loaded: capacity.yaml -->\n```sh\nmake demo\n```\n",
    ],
)
def test_a_block_that_no_test_covers_is_found(page: str) -> None:
    assert untested(pages.blocks_of(CHECKOUT / "page.md", page)[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_fence_is_parsed_as_a_block(page: Path) -> None:
    fences = re.findall(r"^\s*(?:`{3,}|~{3,})", page.read_text(), re.M)
    assert len(fences) == 2 * len([block for block in BLOCKS if block.page == page])


def test_each_kind_of_sender_has_a_page_with_an_example_that_runs() -> None:
    assert {path.name for path in CONNECT.glob("*.md")} == {
        f"{kind}.md" for kind in ("fhir", "hl7v2", "csv", "forms", "hub", "commands", "lists", "fetch")
    }
    assert set(CONNECT.glob("*.md")) - {CONNECT / "commands.md"} <= {block.page for block in RUN}


# ---- blocks that run ------------------------------------------------------------------------------------------------


@pytest.fixture
async def environment(walk: Walk, session: aiohttp.ClientSession) -> dict[str, str]:
    """What the pages take from addresses.json, and the reference of a referral that has feedback; one person is in doubt."""
    addresses = walk.running.addresses
    [answer] = await send.send([CHECKOUT / "examples" / "mr-c.json"], "first-contact", addresses, http=False)
    assert answer.reference
    await walk.fetched(session, "first-contact", answer.reference, often=1)
    [in_doubt] = await send.send([CHECKOUT / "examples" / "failing-number-ward.hl7"], "uhl", addresses, http=False)
    assert in_doubt.reference
    await walk.fetched(session, "uhl", in_doubt.reference, often=1)
    tokens = {"GP": "gp-alder-lane", "UHL": "uhl", "BLABY": "council-blaby", "FIRST_CONTACT": "first-contact"}
    tokens |= {"HUB": "hub-blaby"}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("LIGHTBULB_")},
        **{f"{name}_TOKEN": walk.token(partner) for name, partner in tokens.items()},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
        "INTAKE": addresses["intake"],
        "NOTIFIER": addresses["notifier"],
        "KAFKA": addresses["kafka"],
        "MLLP": addresses["mllp"]["uhl"],
        "ADT_MLLP": addresses["adt_mllp"]["uhl"],
        "DATA": str(walk.running.plan.data),
        "LIGHTBULB_DATA": str(walk.running.plan.data),
        "REFERENCE": answer.reference,
    }


@pytest.mark.parametrize("block", RUN, ids=named)
def test_a_block_runs_and_shows_its_output(block: Block, environment: dict[str, str]) -> None:
    argv = [*SHELL[block.language], block.text]
    wanted = shown(block.output or "")
    ran = subprocess.Popen(
        argv, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    limit = threading.Timer(SECONDS, os.killpg, [ran.pid, signal.SIGKILL])
    limit.start()
    try:
        output = _until(ran, wanted) if block.mark == "tested until its output" else ran.communicate()[0]
    finally:
        limit.cancel()
        if ran.poll() is None:
            os.killpg(ran.pid, signal.SIGKILL)
            ran.wait()
    assert wanted.search(plain(output)), output
    assert ran.returncode == 0 or block.mark == "tested until its output", output


def _until(ran: "subprocess.Popen[str]", wanted: re.Pattern[str]) -> str:
    assert ran.stdout is not None
    output = ""
    for line in ran.stdout:
        output += line
        if wanted.search(plain(output)):
            break
    return output


VARIES = {
    r"\n\.\.\.\n": r"\n(?:.*?\n)?",
    r"\.\.\.": r".*?",
    r"LB(?:-[0-9A-Z]{4}){3}": r"LB(?:-[0-9A-Z]{4}){3}",
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)": r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)",
}
"""What differs from run to run: references, UUIDs, times, and what a page leaves out with three dots, in a line or as one."""


def shown(output: str) -> re.Pattern[str]:
    """Return the pattern of an output as a page shows it."""
    parts = re.split(f"({'|'.join(VARIES)})", plain(output))
    found = (next((as_read for given, as_read in VARIES.items() if re.fullmatch(given, part)), None) for part in parts)
    return re.compile("".join(r or re.escape(part) for r, part in zip(found, parts, strict=True)), re.S)


def plain(output: str) -> str:
    """Return the output without what only aligns its columns."""
    return "\n".join(" ".join(line.split()) for line in output.strip().splitlines())


def test_an_output_may_differ_only_in_variable_parts() -> None:
    page = shown("LB-7K3M-9Q2X-4TDW at 2026-11-16T13:05:00Z\n... 3 rows")
    assert page.search("LB-AAAA-BBBB-CCCC at 2027-01-01T00:00:00.123Z\nthis and\nthat, 3 rows\n")
    assert not page.search("LB-AAAA-BBBB-CCCC at 2027-01-01T00:00:00.123Z\nthis and that, 4 rows")
    assert shown("first\n...\nlast").search("first\nlast")
    assert not page.search("none at 2027-01-01T00:00:00Z\n 3 rows")


# ---- blocks that are checked or loaded ------------------------------------------------------------------------------


@pytest.mark.parametrize("block", CHECKED, ids=named)
def test_the_commands_of_a_block_exist(block: Block) -> None:
    assert commands.wrong_in(block.text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_the_commands_in_the_prose_of_a_page_exist(page: Path) -> None:
    inline = re.findall(r"`((?:make|lightbulb|\.venv/bin/lightbulb|python -m) [^`]+)`", page.read_text())
    assert commands.wrong_in("\n".join(inline)) == []


@pytest.mark.parametrize(
    "command",
    [
        "make no-such-target",
        "lightbulb no-such-command",
        "lightbulb quarantine no-such-command",
        "lightbulb up --no-such-option",
        "python -m infra.no_such_module",
        "python -m infra.docgen.contracts --no-such-option",
        "export LIGHTBULB_NO_SUCH_SETTING=1",
        "no-such-program",
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    assert len(commands.wrong_in(command)) == 1
    assert commands.wrong_in("lightbulb quarantine list --service router  # a comment") == []


def _form(name: str, filled: Any) -> None:
    forms = form.load(DIRECTORY / "forms", None)
    jsonschema.Draft202012Validator(form.json_schema(forms[name])).validate(filled)


def _contract(name: str, text: str) -> None:
    schema = json.loads((CONTRACTS / f"{name}.schema.json").read_text())
    definitions = json.loads((CONTRACTS / "definitions.schema.json").read_text())
    registry: Registry[Any] = Registry().with_resource(definitions["$id"], Resource.from_contents(definitions))
    jsonschema.Draft202012Validator(schema, registry=registry).validate(json.loads(text))
    ALL_TYPES[name].model_validate_json(text)


def _capacity(file: Path) -> None:
    folder = shutil.copytree(DIRECTORY, file.parent / "directory")
    file.replace(folder / "capacity.yaml")
    directory.load(folder)


LOADERS: dict[str, Callable[[Path], object]] = {
    "deployment.yaml": lambda file: partners.load(DIRECTORY, file),
    "partners.yaml": lambda file: yaml_files.load(file, PartnersFile),
    "capacity.yaml": _capacity,
}


@pytest.mark.parametrize("block", LOADED, ids=named)
def test_a_block_is_accepted_by_the_parser_of_its_language(block: Block, tmp_path: Path) -> None:
    name = block.mark.removeprefix("loaded: ")
    if name.startswith("form:"):
        _form(name.removeprefix("form:"), json.loads(block.text))
    elif name in ALL_TYPES:
        _contract(name, block.text)
    else:
        file = tmp_path / name
        file.write_text(block.text)
        LOADERS[name](file)


def test_the_deployment_yaml_of_the_deploy_page_shows_every_field() -> None:
    [block] = [block for block in LOADED if block.mark == "loaded: deployment.yaml" and block.page.name == "deploy.md"]
    partners_of_it = yaml.safe_load(block.text)["partners"]
    assert {field for access in partners_of_it.values() for field in access} == set(PartnerCredentials.model_fields)


# ---- names ----------------------------------------------------------------------------------------------------------


def test_the_settings_page_matches_the_code() -> None:
    assert "settings.md" not in generated_pages.drift(), "run `python -m infra.docgen`, and commit docs/settings.md"


def test_an_outdated_settings_page_is_detected(tmp_path: Path) -> None:
    generated_pages.write(tmp_path)
    page = tmp_path / "settings.md"
    page.write_text(page.read_text().replace("1048576", "1"))
    assert generated_pages.drift(tmp_path) == ["settings.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_setting_and_metric_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    measured = {metric.name for metric in metrics.REGISTRY.collect()}
    measured |= {sample.name for metric in metrics.REGISTRY.collect() for sample in metric.samples}
    measured |= {f"{metric.name}_total" for metric in metrics.REGISTRY.collect() if metric.type == "counter"}
    assert set(re.findall(r"\bLIGHTBULB_[A-Z_]*[A-Z]", text)) <= commands.SETTINGS
    assert set(re.findall(r"`(lightbulb_[a-z_]+)\b", text)) <= measured | set(SERVICE_ROLES.values())


def test_every_log_event_and_field_that_the_operating_page_names_is_in_the_code() -> None:
    code = {name for file in (CHECKOUT / "services").rglob("*.py") for name in re.findall(r"\w+", file.read_text())}
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", OPERATE.read_text()))
    assert len(named) >= 15
    of_postgresql = {"pg_basebackup", "archive_mode", "archive_command", "archive_timeout"}
    assert {name for name in named if not name.startswith("lightbulb_")} - code - of_postgresql == set()


def test_every_control_of_the_hazards_page_cites_an_existing_test(every_test_name: Callable[[], set[str]]) -> None:
    page = (CHECKOUT / "docs" / "hazards.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) >= 24
    assert not named - every_test_name()


def test_the_pages_exist() -> None:
    assert OPERATE in {block.page for block in RUN}
    assert CHECKOUT / "README.md" in {block.page for block in CHECKED}
    assert pages.examples_sent() >= {"mrs-v.json", "mr-b.hl7", "council-blaby.csv", "mr-c.json"}
