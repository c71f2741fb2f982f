"""Commands that pages show and no test runs: do their programs, subcommands, targets, modules and options exist?"""

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from infra.cli.main import app
from services.runtime.settings import CHECKOUT, Settings

SETTINGS = {"LIGHTBULB_DATA", *(f"LIGHTBULB_{name.upper()}" for name in Settings.model_fields)}
TARGETS = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.M))


def wrong_in(script: str) -> list[str]:
    """Return what is wrong with the commands of a script; empty if all of them exist."""
    lines = script.replace("\\\n", " ").splitlines()
    return [f"{line.strip()}: {fault}" for line in lines for fault in _faults(shlex.split(line, comments=True))]


def _faults(words: list[str]) -> Iterator[str]:
    while words and (words[0] == "export" or re.match(r"[A-Z_]+=", words[0])):
        name = words.pop(0).partition("=")[0]
        if name.startswith("LIGHTBULB_") and name not in SETTINGS:
            yield f"no setting {name}"
    match words:
        case []:
            return
        case ["make", *arguments]:
            yield from (f"no target {word}" for word in arguments if "=" not in word and word not in TARGETS)
        case ["lightbulb" | ".venv/bin/lightbulb", *arguments]:
            yield from _of_lightbulb(arguments)
        case ["python" | ".venv/bin/python", "-m", module, *arguments]:
            yield from _of_module(module, arguments)
        case _:
            yield f"{words[0]} is not one of our programs: run this block, or show it as text"


def _of_lightbulb(words: Sequence[str]) -> Iterator[str]:
    command = typer.main.get_command(app)
    for at, word in enumerate(words):
        commands = getattr(command, "commands", None)
        if commands is None:
            known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
            yield from (f"no option {option}" for option in _options(words[at:]) if option not in known)
            return
        if word not in commands:
            if word not in [option for one in command.params for option in one.opts]:
                yield f"no command {word}"
            return
        command = commands[word]


def _of_module(module: str, words: Sequence[str]) -> Iterator[str]:
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{module}.__main__")
    if spec is None or spec.origin is None:
        yield f"no module {module}"
        return
    source = Path(spec.origin).read_text()
    yield from (f"no option {option}" for option in _options(words) if f'"{option}"' not in source)


def _options(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--")]
