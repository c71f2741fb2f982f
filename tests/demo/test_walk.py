"""The demo itself, on real parts: what is as the file says passes, and a planted wrong expectation does not."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from infra.demo import run
from infra.demo.examples import EXAMPLES


@pytest.mark.slow
def test_every_example_ends_as_its_file_says() -> None:
    page = io.StringIO()
    code = run.run(keep=False, details=False, console=Console(file=page, width=150))
    assert code == 0, page.getvalue()
    table = page.getvalue().partition("who ")[2].splitlines()
    assert len(table) < 50, "the table fits one screen"


@pytest.mark.slow
def test_a_planted_wrong_expectation_fails_the_demo_and_only_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "QUIET", 6.0)
    for name in ("untraced.json", "untraced.expected.yaml", "unreadable.json", "unreadable.expected.yaml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    planted = tmp_path / "untraced.expected.yaml"
    planted.write_text(planted.read_text().replace("[trip hazards removed]", "[ramp built]"))
    page = io.StringIO()
    code = run.run(keep=False, details=True, console=Console(file=page, width=200), folder=tmp_path)
    said = page.getvalue()
    assert code == 1
    assert "untraced: untraced.json: gp-alder-lane heard of what was done: trip hazards removed, not ramp built" in said
    assert "unreadable:" not in said.replace("unreadable: as its file says", "")
