"""`python -m infra` is `lightbulb`."""

from infra.cli.main import main

main()
