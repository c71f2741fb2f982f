"""Generates the contracts that partners and hub systems read, from schemas/, and judges whether a change breaks them.

`python -m infra.docgen.contracts` writes schemas/contracts/, `--check` compares, `--release` makes the present language the
baseline that later changes are held against.
"""
