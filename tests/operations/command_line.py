"""The commands of `lightbulb`, run in this process."""

from typer.testing import CliRunner, Result

from infra.cli.main import app
from infra.cli.terminal import console


def lightbulb(*words: str) -> Result:
    return run("quarantine", *words)


def run(*words: str) -> Result:
    console.width = 200
    return CliRunner().invoke(app, words)
