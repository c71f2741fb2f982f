"""The command `python -m infra.docgen.partner_pages`."""

import argparse
import sys

from infra.docgen.partner_pages import pages
from services.reference.yaml_files import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: done, or nothing to say. 1: pages differ, or the reviewed files are faulty. 2: wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.docgen.partner_pages",
        description="Writes docs/partners/ from the reviewed files in infra/reference_data.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where pages differ")
    args = parser.parse_args(arguments)
    try:
        changed = pages.drift() if args.check else pages.write()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    prefix = "differs from the reviewed files, run `python -m infra.docgen.partner_pages`: " if args.check else "wrote "
    sys.stdout.writelines(f"{prefix}{name}\n" for name in changed)
    return 1 if args.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
