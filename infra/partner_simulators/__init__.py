"""Simulated partners for demo, tests and chaos: senders, a hub system, a GP system."""
