"""The README does what it says: its tested blocks run, its table of settings and its links are those of the code."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from infra.settings_table import lines
from services.messaging.settings import CHECKOUT
from tests.walk.conftest import Walk

README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"<!-- tested -->\n```sh\n(.*?)```", README, re.S)
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")


def run(block: str, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, **environment, "PATH": PATH}
    return subprocess.run(["bash", "-euc", block], cwd=CHECKOUT, env=told, capture_output=True, text=True, timeout=90)


def the_block_with(words: str) -> str:
    [block] = [block for block in BLOCKS if words in block]
    return block


def test_a_practice_connects_as_the_readme_says(walk: Walk) -> None:
    ran = run(the_block_with("process-message"), INTAKE=walk.running.addresses["intake"], GP_TOKEN=walk.token())
    assert REFERENCE.fullmatch(ran.stdout.strip()), ran.stderr


def test_first_contact_and_whoever_fetches_connect_as_the_readme_says(walk: Walk) -> None:
    sent = run(the_block_with("mr-c.json"), DATA=str(walk.running.plan.data))
    assert sent.returncode == 0, sent.stdout + sent.stderr
    found = REFERENCE.search(sent.stdout)
    assert found
    told = {"NOTIFIER": walk.running.addresses["notifier"], "FIRST_CONTACT_TOKEN": walk.token("first-contact")}
    for _ in range(60):
        fetched = run(the_block_with("fetch_feedback"), REFERENCE=found[0], **told)
        if fetched.returncode == 0:
            break
    assert found[0] in fetched.stdout, fetched.stderr
    other = run(
        the_block_with("fetch_feedback"), REFERENCE=found[0], **{**told, "FIRST_CONTACT_TOKEN": walk.token("uhl")}
    )
    assert "404" in other.stderr


def test_a_hospital_connects_as_the_readme_says(walk: Walk) -> None:
    ran = run(the_block_with("mr-b.hl7"), MLLP=walk.running.addresses["mllp"]["uhl"])
    assert re.search(r"^MSA\|[AC]A\|.*LB-", ran.stdout, re.M), ran.stdout + ran.stderr


def test_a_council_connects_as_the_readme_says(walk: Walk) -> None:
    told = {"INTAKE": walk.running.addresses["intake"], "BLABY_TOKEN": walk.token("council-blaby")}
    ran = run(the_block_with("/councils/blaby/referrals"), **told)
    assert ran.returncode == 0, ran.stderr
    assert {row["outcome"] for row in json.loads(ran.stdout)["rows"]} <= {"received", "already-held"}


def test_a_hub_connects_as_the_readme_says(walk: Walk) -> None:
    told = {**os.environ, "PATH": PATH, "KAFKA": walk.running.addresses["kafka"], "PYTHONUNBUFFERED": "1"}
    block = the_block_with("hub.py")
    missing = ["uk.lightbulb.case.assigned.v1", "uk.lightbulb.case.accepted.v1"]
    with subprocess.Popen(
        ["bash", "-euc", block], cwd=CHECKOUT, env=told, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as hub:
        assert hub.stdout is not None
        for line in hub.stdout:
            missing = [kind for kind in missing if kind not in line]
            if not missing:
                os.killpg(hub.pid, signal.SIGTERM)
                break
    assert not missing


def test_the_table_of_settings_is_that_of_the_code() -> None:
    table = "\n".join(lines())
    assert table in README, "run `python -m infra.settings_table` and paste its table into README.md"


def test_every_file_that_a_page_links_to_exists() -> None:
    pages = [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md"), CHECKOUT / "examples" / "README.md"]
    missing = [
        f"{page.relative_to(CHECKOUT)} -> {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert not missing


def test_every_control_of_the_hazards_page_names_a_test_that_exists(every_test_name: Callable[[], set[str]]) -> None:
    page = (CHECKOUT / "docs" / "hazards.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) >= 24
    assert not named - every_test_name()
