"""Fault injection on a whole installation, with a checker that shares no code with the services. See docs/reliability.md."""
