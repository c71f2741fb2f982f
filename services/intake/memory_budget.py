"""Limit how much memory request bodies use, and how many files are received concurrently, across all partners."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.intake import limits
from services.intake.group_commit import Unavailable


class MemoryBudget:
    """The bytes and file slots that this process has left."""

    def __init__(self) -> None:
        self.bytes_left = limits.BODIES_BYTES
        self.files_left = limits.FILES_AT_ONCE
        self.workbooks_left = limits.WORKBOOKS_AT_ONCE

    @contextmanager
    def reserve_body(self) -> Iterator[Callable[[int], None]]:
        """Reserve memory for one body until its message is answered.

        Call the yielded function with the size of each chunk; it raises Unavailable if the budget is exhausted.
        """
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
        """Reserve one of the file slots while a file is received. Raises Unavailable if none is left."""
        if not self.files_left:
            raise Unavailable
        self.files_left -= 1
        try:
            yield
        finally:
            self.files_left += 1

    @contextmanager
    def reserve_workbook(self) -> Iterator[None]:
        """Reserve the memory of an open workbook. Raises Unavailable if none is left."""
        if not self.workbooks_left:
            raise Unavailable
        self.workbooks_left -= 1
        try:
            yield
        finally:
            self.workbooks_left += 1
