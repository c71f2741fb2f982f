"""The command `python -m infra.docgen`: write the generated pages of docs/, or compare them with their sources."""

import argparse
import sys
from pathlib import Path

from infra.docgen import pages
from services.reference.yaml_files import ConfigError


def main(arguments: list[str] | None = None, docs: Path = pages.DOCS) -> int:
    """Return exit code 0 if nothing is wrong, 1 if pages differ or reviewed files are not valid.

    Wrong usage exits with 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m infra.docgen",
        description="Write docs/limits.md, docs/settings.md, docs/connect/commands.md and docs/partners/ from their sources.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page differs")
    args = parser.parse_args(arguments)
    try:
        changed = pages.drift(docs) if args.check else pages.write(docs)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    prefix = "differs from its source, run `python -m infra.docgen`: docs/" if args.check else "wrote docs/"
    sys.stdout.writelines(f"{prefix}{name}\n" for name in changed)
    return 1 if args.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
