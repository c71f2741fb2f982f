"""A planted fault: Python runs this first. The process is killed when its first batch has committed, before any answer."""

import os
import signal

from services.intake import store

_record = store.record


async def _record_and_die(*args, **kwargs):  # type: ignore[no-untyped-def]
    await _record(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)


store.record = _record_and_die
