"""What every process needs: settings, database, health, metrics, logs, traces, limits, watchdog. Nothing of referrals or messages."""


class StartupError(Exception):
    """A service cannot start; the text says why, and what to do."""
