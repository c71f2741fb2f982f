"""The command `python -m infra.docgen.contracts`."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from infra.docgen.contracts import baseline, files

EPILOG = """\
examples:
  python -m infra.docgen.contracts             after a change of schemas/: write the files, then commit them
  python -m infra.docgen.contracts --check     say which files differ, and what would break its readers
  python -m infra.docgen.contracts --release   from now on, changes are judged against the present language
"""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: done, or nothing to say. 1: the files differ, or a reader would break. 2: wrong usage."""
    args = _parser().parse_args(arguments)
    if args.check:
        return _check()
    if args.release:
        return _release(even_breaking=args.even_breaking)
    if args.forms:
        _write_lines(f"wrote {name}" for name in files.write_forms(args.forms))
        return 0
    _write_lines(f"wrote {name}" for name in files.write())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.docgen.contracts",
        description="Writes the contracts in schemas/contracts/ from schemas/.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="write nothing; exit 1 where files differ or readers break")
    what.add_argument("--release", action="store_true", help="write the files and make them the baseline")
    what.add_argument("--forms", type=Path, metavar="FOLDER", help="write the JSON Schemas of the forms to this folder")
    parser.add_argument(
        "--even-breaking", action="store_true", help="with --release: also where readers break (nobody reads it yet)"
    )
    return parser


def _check() -> int:
    differing = files.drift()
    report = baseline.compare(files.released(), baseline.present())
    _write_lines(f"differs from the code, run `python -m infra.docgen.contracts`: {name}" for name in differing)
    _write_lines(f"breaks its readers: {message}" for message in report.breaking)
    _write_lines(f"note: {message}" for message in report.notes)
    return 1 if differing or report.breaking else 0


def _release(*, even_breaking: bool) -> int:
    breaking = _breaking_now()
    _write_lines(f"breaks its readers: {message}" for message in breaking)
    if breaking and not even_breaking:
        _write_lines(["not released: make it a new type (v2), or add --even-breaking while nobody reads it"])
        return 1
    files.write()
    files.release()
    return 0


def _breaking_now() -> tuple[str, ...]:
    return baseline.compare(files.released(), baseline.present()).breaking if files.has_baseline() else ()


def _write_lines(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
