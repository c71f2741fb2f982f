"""The runtime of every process: settings, database, health, metrics, logs, traces, limits, watchdog."""


class StartupError(Exception):
    """A service cannot start; the text gives the reason and what to do."""


class NotYet(StartupError):
    """Something is lacking that may come while the service waits, as by a migration that is running."""
