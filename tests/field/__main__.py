"""`python -m tests.field`: play the field cases against a running installation, and compare with the committed verdicts."""

import argparse
import importlib
import importlib.util
import json
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.field import installation
from tests.field.case import CASES, Case, Unplayed, Wrong

TEACHES = """\
what is played
  Inputs that partners' real systems send, by format (fhir, hl7v2, csv, form), and attacks (security). Each case is played with new people
  and references, as a black box: what is sent, what is answered, and what the topics, mailboxes and hubs get.

verdicts
  holds       the product's answer is right
  wrong       it is not; the line says what was expected and what was seen
  unplayed    the case could not be played; this counts as a failure

  tests/field/expected.json holds the verdicts of this commit. The command ends with 1 if any verdict differs from it, also one that
  got better: accept it together with the change that made it so.

variants
  tests/field/variants makes messages that no list has: for each kind of fault, other elements, positions, orders and sequences. They
  have no committed verdicts: each must hold. The default tests play 20 of each kind against intake alone.

where the cases are
  tests/field/{fhir,hl7v2,csv,form}.yaml   inputs, expectations, why and source; the inputs are in the folders of the same name
  tests/field/{fhir,hl7v2,csv,form,security}.py   cases that are functions; case.py says what a case is

examples
  make field                                         all cases, in an installation of their own
  make field ARGS="--only sparse-update"             the cases whose name holds a word
  make field ARGS="--variants 20"                    20 variants of each kind of message that senders get wrong
  make field ARGS=--accept                           write the verdicts to expected.json
  .venv/bin/python -m tests.field --addresses ~/lightbulb/addresses.json    an installation that is running already
"""

EXPECTED = Path(__file__).with_name("expected.json")
MODULES = ("fhir", "hl7v2", "csv", "form", "security", "ops")
AT_ONCE = {"fhir": 4, "hl7v2": 4, "form": 4}
"""Cases of a format that are played at the same time; of any other, one after the other."""

Verdicts = dict[str, tuple[str, str]]
"""By case: the verdict, and what was wrong."""


def main(argv: Sequence[str] | None = None) -> int:
    """0: as committed; 1: not so, or a case was not played; 2: no such case."""
    asked = _asked(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop what was started then too
    load()
    if asked.variants:
        return variants_hold(asked)
    chosen = [case for name, case in sorted(CASES.items()) if not asked.only or any(w in name for w in asked.only)]
    if not chosen:
        say(f"no case is named like {' or '.join(asked.only)}")
        return 2
    verdicts = play_all(chosen, asked.addresses)
    say(summary(verdicts))
    if asked.accept:
        accept(verdicts, whole=not asked.only)
    return compared(verdicts, whole=not asked.only)


def variants_hold(asked: argparse.Namespace) -> int:
    """Play variants of the kinds of messages; return the exit code."""
    from tests.field.variants import play  # imported only if variants are played

    with running(asked.addresses) as where:
        lines = [*map(say_and_keep, play.in_installation(where, asked.variants, asked.seed, asked.only))]
    return 1 if any(line.startswith("wrong") for line in lines) else 0


def say_and_keep(line: str) -> str:
    """Print a line, and return it."""
    say(line)
    return line


def compared(verdicts: Verdicts, *, whole: bool) -> int:
    """Print what differs from the committed verdicts; return the exit code."""
    differing = list(differences(verdicts, json.loads(EXPECTED.read_text()), whole=whole))
    for line in differing:
        say(line)
    return 1 if differing else 0


def load() -> None:
    """Import the modules that register cases."""
    for name in MODULES:
        if importlib.util.find_spec(f"tests.field.{name}"):
            importlib.import_module(f"tests.field.{name}")


def _asked(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.field",
        description=__doc__,
        epilog=TEACHES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="WORD", nargs="+", default=[], help="cases whose name holds one of the words")
    parser.add_argument("--accept", action="store_true", help="write the verdicts to tests/field/expected.json")
    parser.add_argument("--variants", metavar="N", type=int, help="play N variants of each kind of message instead")
    parser.add_argument("--seed", type=int, help="of the variants; a new one each time if it is not given")
    parser.add_argument("--addresses", metavar="FILE", type=Path, help="addresses.json of a running installation")
    return parser.parse_args(argv)


# ---- playing -----------------------------------------------------------------------------------------------------------


def play_all(cases: Sequence[Case], addresses: Path | None) -> Verdicts:
    """Play the cases: by format, attacks after the rest, and each destructive case in an installation of its own."""
    kept = [case for case in cases if not case.destructive]
    attacks = [case for case in kept if case.name.startswith("security/")]
    verdicts: Verdicts = {}
    if kept:
        with running(addresses) as where:
            verdicts |= _together([case for case in kept if case not in attacks], where)
            verdicts |= _in_order(attacks, where)
    for case in cases:
        if case.destructive:
            verdicts |= _destructive(case, addresses)
    return verdicts


def _together(cases: Sequence[Case], where: dict[str, Any]) -> Verdicts:
    formats = {case.name: case.name.partition("/")[0] for case in cases}
    pools = {one: ThreadPoolExecutor(AT_ONCE.get(one, 1)) for one in formats.values()}
    try:
        playing = {case.name: pools[formats[case.name]].submit(played, case, where) for case in cases}
        return {name: future.result() for name, future in playing.items()}
    finally:
        for pool in pools.values():
            pool.shutdown(cancel_futures=True)


def _in_order(cases: Iterable[Case], where: dict[str, Any]) -> Verdicts:
    return {case.name: played(case, where) for case in cases}


def _destructive(case: Case, addresses: Path | None) -> Verdicts:
    if addresses:
        return {case.name: _said(case, "unplayed", "destructive: needs an installation of its own, not --addresses")}
    with running(None) as where:
        return {case.name: played(case, where)}


def played(case: Case, where: dict[str, Any]) -> tuple[str, str]:
    """Play a case; its verdict, and what was wrong."""
    try:
        case.play(where)
    except Wrong as error:
        return _said(case, "wrong", str(error))
    except Unplayed as error:
        return _said(case, "unplayed", str(error))
    except Exception as error:
        traceback.print_exc()
        return _said(case, "unplayed", f"{type(error).__name__}: {error}")
    return _said(case, "holds", "")


def _said(case: Case, verdict: str, text: str) -> tuple[str, str]:
    say(f"{case.name}: {verdict}{': ' if text else ''}{' / '.join(text.splitlines())}")
    return verdict, text


@contextmanager
def running(addresses: Path | None) -> Iterator[dict[str, Any]]:
    """The addresses of an installation: the one that runs already, or a new one on embedded parts for this once."""
    if addresses:
        yield json.loads(addresses.read_text())
        installation.close_all()
        return
    from infra.local.installation import Plan, start, temporary_folder  # imported only if embedded parts are run

    started = start(Plan(temporary_folder(), ephemeral=True, environment={"LIGHTBULB_OVERDUE_SECONDS": "2"}))
    try:
        yield started.addresses
    finally:
        installation.close_all()
        started.stop()


# ---- verdicts ----------------------------------------------------------------------------------------------------------


def summary(verdicts: Mapping[str, tuple[str, str]]) -> str:
    """The counts by format."""
    counts = Counter((name.partition("/")[0], verdict) for name, (verdict, _) in verdicts.items())
    lines = []
    for one in sorted({kind for kind, _ in counts}):
        said = [f"{counts[one, verdict]} {verdict}" for verdict in ("holds", "wrong", "unplayed")]
        lines.append(f"{one}: {', '.join(said)}")
    return "\n".join(lines)


def differences(verdicts: Mapping[str, tuple[str, str]], expected: Mapping[str, str], *, whole: bool) -> Iterator[str]:
    """What is not as committed; cases that were not asked for are no difference."""
    for name in sorted({*verdicts, *(expected if whole else ())}):
        now, before = verdicts.get(name, ("gone", ""))[0], expected.get(name, "not committed")
        if now != before:
            yield f"differs: {name}: {before} -> {now}"


def accept(verdicts: Mapping[str, tuple[str, str]], *, whole: bool) -> None:
    """Write the verdicts that were played; others stay unless all were asked for."""
    kept = {} if whole else json.loads(EXPECTED.read_text())
    now = {name: verdict for name, (verdict, _) in verdicts.items() if verdict != "unplayed"}
    EXPECTED.write_text(json.dumps(kept | now, indent=2, sort_keys=True) + "\n")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
