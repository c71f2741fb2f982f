"""Run first in each process of a service: use proxies, block its event loop, change its clock. Apply a mutant, also in a command."""

import os
import signal
import sys
import time

_module = next((word for word in sys.orig_argv if word == "infra" or word.startswith("services.")), "")
_service = "operator" if _module == "infra" else _module.partition(".")[2].partition(".")[0]


def _use_proxies() -> None:
    """Set LIGHTBULB_KAFKA to the value of CHAOS_ROUTER_KAFKA in the router; likewise for the other services and settings."""
    prefix = f"CHAOS_{_service.upper()}_"
    for name, value in list(os.environ.items()):
        if name.startswith(prefix):
            os.environ["LIGHTBULB_" + name.removeprefix(prefix)] = value


def _block(*_: object) -> None:
    """Block the event loop for longer than Kafka's session timeout (signal SIGUSR1)."""
    time.sleep(float(os.environ.get("CHAOS_BLOCK_SECONDS", "11")))


def _permit_dead_letters() -> None:
    """Set the permitted share of dead letters to the one in the file, while there is one."""
    try:
        with open(os.path.join(os.environ.get("CHAOS_FOLDER", ""), "dead-letter-share")) as share:
            os.environ["LIGHTBULB_DEAD_LETTER_SHARE"] = share.read()
    except OSError:
        return


def _skew() -> None:
    """Change the clock of the first process that starts after the file was written, by the seconds in it."""
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
    _permit_dead_letters()
    signal.signal(signal.SIGUSR1, _block)
    _skew()
    if os.environ.get("CHAOS_MUTANT"):
        from tests.chaos.mutants import catalogue

        catalogue.apply(os.environ["CHAOS_MUTANT"], _service)
