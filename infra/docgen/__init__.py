"""Generators of the contracts and of the generated pages in docs/."""
