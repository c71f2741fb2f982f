"""Room in memory: how many bytes of bodies, and how many files, one process has in hand at once, whoever sends them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.intake import limits
from services.intake.group_commit import Unavailable


class MemoryBudget:
    """What is left of it."""

    def __init__(self) -> None:
        self.bytes_left = limits.BODIES_BYTES
        self.files_left = limits.FILES_AT_ONCE

    @contextmanager
    def reserve_body(self) -> Iterator[Callable[[int], None]]:
        """Until its message is answered. Say how many bytes came; raises Unavailable where they are too many for all bodies together."""
        reserved = 0

        def reserve(size: int) -> None:
            nonlocal reserved
            if size > self.bytes_left:
                raise Unavailable
            reserved += size
            self.bytes_left -= size

        try:
            yield reserve
        finally:
            self.bytes_left += reserved

    @contextmanager
    def reserve_file(self) -> Iterator[None]:
        """While it is received. Raises Unavailable where too many are."""
        if not self.files_left:
            raise Unavailable
        self.files_left -= 1
        try:
            yield
        finally:
            self.files_left += 1
