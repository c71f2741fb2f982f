"""Simulated partners for demo, tests and chaos: senders, a hub's system, a GP practice's system."""
