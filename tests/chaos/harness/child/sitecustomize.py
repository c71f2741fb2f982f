"""Python runs this first in every service of a chaos run: its own wires, a loop to block, a wrong clock, a mutant."""

import os
import signal
import sys
import time

_module = next((word for word in sys.orig_argv if word.startswith("services.")), "")
_service = _module.split(".")[1] if _module else ""


def _use_proxies() -> None:
    """CHAOS_ROUTER_KAFKA is LIGHTBULB_KAFKA for the router alone."""
    prefix = f"CHAOS_{_service.upper()}_"
    for name, value in list(os.environ.items()):
        if name.startswith(prefix):
            os.environ["LIGHTBULB_" + name.removeprefix(prefix)] = value


def _block(*_: object) -> None:
    """SIGUSR1: the event loop does nothing for longer than Kafka's session lasts."""
    time.sleep(float(os.environ.get("CHAOS_BLOCK_SECONDS", "11")))


def _skew() -> None:
    """Whoever starts first after the file was written has a clock that is wrong by so many seconds."""
    file = os.path.join(os.environ.get("CHAOS_FOLDER", ""), f"skew-{_service}")
    try:
        os.rename(file, f"{file}.{os.getpid()}")
        with open(f"{file}.{os.getpid()}") as taken:
            seconds = float(taken.read())
    except OSError:
        return
    from tests.chaos.harness import clock_skew

    clock_skew.skew(seconds)


if _service:
    _use_proxies()
    signal.signal(signal.SIGUSR1, _block)
    _skew()
    if os.environ.get("CHAOS_MUTANT"):
        from tests.chaos.mutants import catalogue

        catalogue.apply(os.environ["CHAOS_MUTANT"], _service)
