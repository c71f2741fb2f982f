"""Run the `lightbulb` command as `python -m infra`."""

from infra.cli.main import main

main()
