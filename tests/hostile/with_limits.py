"""Intake as it runs, with some of its limits of time and number made shorter by LIGHTBULB_TEST_LIMITS, so that tests need not wait."""

import json
import os
import runpy

from services.intake import limits

for name, value in json.loads(os.environ.pop("LIGHTBULB_TEST_LIMITS")).items():
    assert hasattr(limits, name), name
    setattr(limits, name, value)

runpy.run_module("services.intake.app", run_name="__main__", alter_sys=True)
