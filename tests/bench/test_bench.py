"""The smallest run of the benchmark: both peers start by their contract, and neither loses or repeats anything."""

import subprocess
import sys

import pytest

from services.runtime.settings import CHECKOUT


@pytest.mark.slow
def test_both_peers_give_every_referral_its_feedback_once() -> None:
    command = [sys.executable, "-m", "bench", "--count", "60", "--warm-up", "20", "--runs", "1", "--connections", "8"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a referral costs" in done.stdout
