"""The command `python -m infra.docgen.contracts`."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from infra.docgen.contracts import baseline, files

EPILOG = """\
examples:
  python -m infra.docgen.contracts             after a change of schemas/: write the files, then commit them
  python -m infra.docgen.contracts --check     list the files that differ, and the changes that break readers
  python -m infra.docgen.contracts --release   make the current contracts the baseline for later changes
"""


def main(arguments: list[str] | None = None) -> int:
    """Return exit code 0 if nothing is wrong, 1 if files differ or a reader would break. Wrong usage exits with 2."""
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
        description="Write the contracts in schemas/contracts/ from schemas/.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if files differ or readers break"
    )
    what.add_argument("--release", action="store_true", help="write the files and make them the baseline")
    what.add_argument("--forms", type=Path, metavar="FOLDER", help="write the JSON Schemas of the forms to this folder")
    parser.add_argument(
        "--even-breaking",
        action="store_true",
        help="with --release: even if readers break (only before anyone uses the contracts)",
    )
    return parser


def _check() -> int:
    differing = files.drift()
    report = baseline.compare(files.released(), baseline.present())
    _write_lines(f"differs from the code, run `python -m infra.docgen.contracts`: {name}" for name in differing)
    _write_lines(f"breaks readers: {message}" for message in report.breaking)
    _write_lines(f"note: {message}" for message in report.notes)
    return 1 if differing or report.breaking else 0


def _release(*, even_breaking: bool) -> int:
    breaking = _breaking_now()
    _write_lines(f"breaks readers: {message}" for message in breaking)
    if breaking and not even_breaking:
        _write_lines(
            ["not released: make it a new type (v2), or add --even-breaking if the contracts are not in use yet"]
        )
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
