"""`python -m tests.fuzz`: every way in, with anything, for as long as is asked."""

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.fuzz.libfuzzer import Ended, Limits, run
from tests.fuzz.targets import CHECKOUT, TARGETS

TEACHES = """\
what runs
  hl7v2 csv files workbooks forms bars frames
           translators, councils' files and MLLP frames, under atheris: guided by the places of our code that an input reaches
  meaning  changes of what one element of a BaRS message means: it must be visible in the referral, the refusal, or what was passed over
  meaning-rows meaning-forms
           changes of one cell or value: it must be visible in the referral, the refusal, or a warning
  http     requests from the OpenAPI document, and any bytes, to a real intake
  hostile  clients that stall, lie and flood, thousands at once, against a real intake

what must hold
  one answer, and a value: no exception, no status 5xx, no hang; no word of the message in a refusal; a referral that was understood
  keeps the published contract and comes back from Kafka as it went.

what is found
  The input goes to .cache/fuzz/found, and the command ends with 1. See it again:
      python -m tests.fuzz --only csv --play .cache/fuzz/found/csv-crash-...
  Once it is mended, move the file to tests/fuzz/kept/csv/: the default test run plays what lies there.

examples
  python -m tests.fuzz --seconds 600                  each target and http for its tenth, hostile once through
  python -m tests.fuzz --seconds 3600 --only hl7v2    one target for an hour; its corpus grows in .cache/fuzz/corpus
  python -m tests.fuzz --seconds ci                   the short set of CI: fixed seed, fixed numbers of inputs
"""

GUIDED = tuple(TARGETS)
OTHERS = ("http", "hostile")
CI_SEED = 20_261_105


def main(argv: Sequence[str] | None = None) -> int:
    """0: nothing was found; 1: something was; 2: asked for what there is not; 130: stopped by Ctrl-C."""
    asked = _asked(argv)
    if asked.play:
        return _play(asked.only, asked.play)
    seed = (
        asked.seed
        if asked.seed is not None
        else CI_SEED
        if asked.seconds is None
        else random.SystemRandom().randrange(2**31)
    )
    say(f"seed {seed}")
    broken: list[str] = []
    try:
        _guided([name for name in asked.only if name in GUIDED], asked, seed, broken)
        for name in (name for name in asked.only if name in OTHERS):
            _other(name, asked.seconds and asked.seconds / len(asked.only), seed, broken)
    except KeyboardInterrupt:
        say("stopped; the corpus is kept, and the next run goes on from it")
        return 1 if broken else 130
    for line in broken:
        say(line)
    say(f"{len(broken)} found" if broken else "nothing found")
    return 1 if broken else 0


def _asked(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        epilog=TEACHES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=600.0, help="in all, shared by what runs; or ci (default 600)"
    )
    parser.add_argument("--only", type=_names, default=[*GUIDED, *OTHERS], help="names, with commas between them")
    parser.add_argument("--seed", type=int, help="of the changes; a new one each time where it is not given")
    parser.add_argument("--play", metavar="FILE", help="one input of one target once, with what is wrong")
    return parser.parse_args(argv)


def _seconds(text: str) -> float | None:
    """None: the short set."""
    if text == "ci":
        return None
    seconds = float(text)
    if seconds <= 0:
        raise ValueError
    return seconds


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in (*GUIDED, *OTHERS)]:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join((*GUIDED, *OTHERS))}")
    return names


def _play(only: Sequence[str], file: str) -> int:
    if len(only) != 1 or only[0] not in TARGETS:
        say(f"--play needs --only with one of {', '.join(GUIDED)}")
        return 2
    with open(file, "rb") as opened:
        TARGETS[only[0]].assert_holds(opened.read())
    say("it holds")
    return 0


# ---- guided by coverage ---------------------------------------------------------------------------------------------


def _guided(names: Sequence[str], asked: argparse.Namespace, seed: int, broken: list[str]) -> None:
    if names and importlib.util.find_spec("atheris") is None:
        say(
            f"NOT RUN: {', '.join(names)}. atheris has packages for x86_64 Linux only, and there is none in this environment"
        )
        return
    for name in names:
        began = time.monotonic()
        ended = run(name, _limits(name, asked), seed, say, is_fresh=asked.seconds is None)
        say(f"{name}: {ended.runs:,} inputs, {ended.places:,} places, {time.monotonic() - began:.0f} s. {_told(ended)}")
        if ended.found or ended.why:
            broken.append(f"{name}: {ended.why}\n  {ended.found}")


def _limits(name: str, asked: argparse.Namespace) -> Limits:
    if asked.seconds is None:
        return Limits(runs=TARGETS[name].runs, one_input=120)
    return Limits(seconds=asked.seconds / len(asked.only))


def _told(ended: Ended) -> str:
    return f"FOUND {ended.found}" if ended.found else f"FAILED {ended.why}" if ended.why else "Nothing found"


# ---- against a running intake ---------------------------------------------------------------------------------------


def _other(name: str, seconds: float | None, seed: int, broken: list[str]) -> None:
    command = _http(seconds, seed) if name == "http" else _hostile(seconds)
    if command is None:
        return
    began = time.monotonic()
    code = subprocess.call([sys.executable, *command], cwd=CHECKOUT, env=os.environ | {"LIGHTBULB_HOSTILE": "2000"})
    say(f"{name}: {time.monotonic() - began:.0f} s. {'Nothing found' if code == 0 else f'FOUND, ended with {code}'}")
    if code:
        broken.append(f"{name}: see above")


def _http(seconds: float | None, seed: int) -> list[str] | None:
    if importlib.util.find_spec("tests.fuzz.http") is None:
        return say("NOT RUN: http; there is no tests/fuzz/http.py")
    return ["-m", "tests.fuzz.http", "--seconds", "ci" if seconds is None else str(round(seconds)), "--seed", str(seed)]


def _hostile(seconds: float | None) -> list[str] | None:
    """Its short version is part of the default test run, which CI has behind it."""
    return None if seconds is None else ["-m", "pytest", "-q", "tests/hostile"]


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"fuzz: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
