"""The demo on real parts: matching expectations pass, and a planted wrong one fails."""

import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from infra.demo import run
from infra.demo.examples import EXAMPLES


@pytest.mark.slow
def test_every_example_matches_its_expected_file_and_only_a_planted_difference_is_named(
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    planted = folder / "untraced.expected.yaml"
    planted.write_text(planted.read_text().replace("[trip hazards removed]", "[ramp built]"))
    page = io.StringIO()
    code = run.run(keep=False, details=True, console=Console(file=page, width=200), folder=folder)
    said = page.getvalue()
    header = re.search(r"^who +.* matches *$", said, re.M)
    assert header, said
    assert "council-blaby-bad.csv: dry run of CSV of blaby" in said[: header.start()]
    after = said[header.end() :]
    wrong = [line for line in after.splitlines() if re.match(r"[a-z0-9-]+: ", line)]
    assert code == 1, said
    assert wrong == [
        "untraced: untraced.json: gp-alder-lane received completed actions trip hazards removed, not ramp built"
    ]
    assert len(after.splitlines()) < 50, "the tables fit one screen"
