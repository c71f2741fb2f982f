"""Generators of contracts and of pages in docs/."""
