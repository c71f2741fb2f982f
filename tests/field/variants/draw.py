"""Choices of a variant, all from its seed: ids, people, times, and which of several possibilities."""

import random
import string
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

T = TypeVar("T")
LONDON = ZoneInfo("Europe/London")


class Draw:
    """The choices of the variant with this number. `ids`: the ids that it was given, which find its records again."""

    def __init__(self, seed: str, number: int, now: datetime, used: set[str]) -> None:
        self.number, self.now = number, now.replace(microsecond=0)
        self.ids: set[str] = set()
        self.options = 0
        """The most options that `each` had."""
        self._seed, self._used = seed, used
        self._random = random.Random(f"{seed} {number}")
        self._asked = 0

    def each(self, options: Sequence[T]) -> T:
        """Return one of the options: over the numbers of a seed all of them, in an order of the seed's."""
        self._asked += 1
        self.options = max(self.options, len(options))
        order = list(range(len(options)))
        random.Random(f"{self._seed} {self._asked} {len(options)}").shuffle(order)
        return options[order[self.number % len(order)]]

    def one_of(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self._random.sample(items, len(items))

    def chance(self) -> bool:
        return self._random.random() < 0.5

    def between(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def uuid(self) -> str:
        made = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        self.ids.add(made)
        return made

    def code(self, prefix: str) -> str:
        """An id of letters and digits that stands nowhere else."""
        made = f"{prefix}{self._random.getrandbits(48):012x}".upper()
        self.ids.add(made)
        return made

    def nhs_number(self) -> str:
        """A synthetic NHS number (999 ...) that nobody else of this run has."""
        while True:
            digits = f"999{self._random.randrange(9 * 10**5):06d}"
            check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(digits)) % 11
            number = digits + str(check % 11)
            if check != 10 and number not in self._used:
                self._used.add(number)
                self.ids.add(number)
                return number

    def word(self) -> str:
        """A name or word of six letters that stands nowhere else."""
        return "".join(self._random.choice(string.ascii_lowercase) for _ in range(6)).capitalize()

    def phone(self) -> str:
        return f"01632 960{self._random.randrange(1000):03d}"

    def postcode(self) -> str:
        """A postcode of Charnwood that no sample has."""
        return (
            f"LE11 {self._random.randint(1, 5)}{self._random.choice('ABDEFGHJLN')}{self._random.choice('ABDEFGHJLN')}"
        )

    def at(self, **ago: int) -> str:
        """The time so long before now, as an instant; a negative number is in the future."""
        return (self.now - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")

    # ---- periods ----------------------------------------------------------------------------------------------------

    def period_over(self) -> dict[str, str]:
        """A period that has ended, by a year, month, day or instant."""
        days = self.between(400, 4000)
        end = self._random.choice([self._partial(days), self._partial(2), self.at(minutes=self.between(30, 3000))])
        return {"end": end} if self.chance() else {"start": "2001-05-01", "end": end}

    def period_to_come(self) -> dict[str, str]:
        """A period that has not begun."""
        start = self._random.choice([self._partial(-self.between(400, 4000)), self._partial(-2), "2099"])
        return {"start": start} if self.chance() else {"start": start, "end": "2199-12-31"}

    def period_now(self) -> dict[str, str] | None:
        """A period that holds, or none: open at either end, and of any precision."""
        end = self._random.choice([self.at(days=-3), self._partial(0), self._partial(-900), "9999-12-31", ""])
        start = self._random.choice(["1999", "2004-03", "2010-01-31", self.at(days=2), ""])
        made = {name: value for name, value in (("start", start), ("end", end)) if value}
        return made or None

    def _partial(self, days_ago: int) -> str:
        """A day so many days ago (negative: in the future), in full; if it is over a year away or today perhaps its year or month."""
        day = (self.now - timedelta(days=days_ago)).strftime("%Y-%m-%d")
        is_far = abs(days_ago) > 366 or days_ago == 0
        return day[: self._random.choice([4, 7, 10])] if is_far else day
