"""Run the `lightbulb` command, as the installed script and as `python -m infra`."""

import os
import signal


def main() -> None:
    """Run the command line. Ctrl-C while its modules are imported ends the process at once: nothing is running yet."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop_at_once)
    from infra.cli import main as command_line  # imports for more than a second

    _silence_libraries()
    if signal.getsignal(signal.SIGINT) is _stop_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line.main()


def _stop_at_once(*_: object) -> None:
    os.write(2, b"Stopped.\n")
    os._exit(130)


def _silence_libraries() -> None:
    """Log nothing: a command prints its result, and its errors in one line. The services have logs of their own."""
    import logging  # both after the handler of Ctrl-C

    import structlog

    logging.basicConfig(handlers=[logging.NullHandler()])
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


if __name__ == "__main__":
    main()
