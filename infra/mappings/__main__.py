"""The command `python -m infra.mappings`."""

import argparse
import sys

from infra.mappings import pages
from services.reviewed import Faulty


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: done, or nothing to say. 1: pages differ, or the reviewed files are faulty. 2: wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.mappings", description="Writes docs/partners/ from the reviewed files in infra/directory."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where pages differ")
    asked = parser.parse_args(arguments)
    try:
        changed = pages.drift() if asked.check else pages.write()
    except Faulty as faulty:
        sys.stderr.write(f"{faulty}\n")
        return 1
    said = "differs from the reviewed files, run `python -m infra.mappings`: " if asked.check else "wrote "
    sys.stdout.writelines(f"{said}{name}\n" for name in changed)
    return 1 if asked.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
