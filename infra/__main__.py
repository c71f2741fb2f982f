"""`python -m infra` is `lightbulb`."""

from infra.cli import main

main()
