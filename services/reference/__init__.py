"""Reviewed data that partners and hubs agreed on, loaded once when a process starts."""
