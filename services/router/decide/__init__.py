"""The router's decisions. Pure: no I/O, clock, randomness or environment; an import contract in pyproject.toml checks it."""
