"""Forms as form builders and front doors send them; the cases are data, in form.yaml."""

from functools import partial

from tests.field import scripted
from tests.field.case import case

for script in scripted.scripts("form"):
    case(script.name)(partial(scripted.judge_requests, script))
