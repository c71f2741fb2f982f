"""Generate the contracts that partners and hub systems use, from schemas/, and check whether a change breaks them.

`python -m infra.docgen.contracts` writes schemas/contracts/, `--check` compares, `--release` makes the current
contracts the baseline that later changes are compared with.
"""
