"""One target under atheris, in a process of its own, which libFuzzer ends. `python -m tests.fuzz.child NAME` and libFuzzer's flags.

Only our own reading is instrumented. Whatever a check raises is a finding; libFuzzer keeps the input.
"""

import random
import sys

import atheris

INSTRUMENTED = [
    "services.intake.translators",
    "services.intake.mllp.frames",
    "services.intake.responses",
    "schemas.referral",
    "schemas.nhs_number",
    "hl7",
]

with atheris.instrument_imports(include=INSTRUMENTED):
    from tests.fuzz import judge
    from tests.fuzz.targets import TARGETS, Target


def mutator(target: Target) -> "object":
    """Mostly changes that know the syntax, one to four at once; now and then libFuzzer's own."""

    def change(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if draw.random() < 0.15:
            return bytes(atheris.Mutate(data, most))
        for _ in range(draw.choice((1, 1, 1, 2, 2, 4))):
            data = target.mutate(data, draw)
        return data[:most]

    return change


def main() -> None:
    """Fuzz until libFuzzer's flags say that it is enough."""
    name, *flags = sys.argv[1:]
    target = TARGETS[name]
    judge.vocabulary()
    atheris.Setup([sys.argv[0], *flags], target.assert_holds, custom_mutator=mutator(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
