"""Reviewed data that partners and hubs agreed on, loaded once at the start of a process."""
