"""Decisions of the router: no I/O, clock, randomness or environment, as pyproject.toml's import contracts check."""
