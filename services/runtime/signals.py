"""The first SIGTERM or SIGINT ends a process in order; a second one ends it at once, as SIGKILL would."""

import asyncio
import signal

from services.runtime.logs import log

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_event() -> asyncio.Event:
    """Return an event that the first signal sets; then the default handlers are restored.

    What a second signal interrupts is rolled back, and another process repeats it.
    """
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def on_signal() -> None:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        log.info("stopping")
        stopping.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    return stopping
