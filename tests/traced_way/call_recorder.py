"""Record which functions of schemas/ and services/ are entered."""

import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType, FrameType
from typing import NamedTuple

from services.runtime.settings import CHECKOUT

PRODUCT = ("schemas/", "services/")


class Function(NamedTuple):
    """A function of the product: its file, relative to the repository, and its qualified name."""

    file: str
    name: str


class CallRecorder:
    """Sees every call in this thread, and in threads that start while it is installed; records only in `recording`.

    Comprehensions, generator expressions and lambdas are not counted: which of them are functions depends on the version of Python.
    """

    def __init__(self) -> None:
        self._entered: set[Function] | None = None
        self._known: Collection[Function] = ()
        self._left_out: tuple[str, ...] = ()

    def __enter__(self) -> "CallRecorder":
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    @contextmanager
    def recording(self, *, known: Collection[Function] = (), left_out: Collection[str] = ()) -> Iterator[set[Function]]:
        """Yield a set that receives each function when it is entered.

        `known`: functions not to record. `left_out`: files or folders; what is called from there is not recorded.
        """
        self._known, self._left_out = frozenset(known), tuple(left_out)
        entered = self._entered = set()
        try:
            yield entered
        finally:
            self._entered = None

    def _on_event(self, frame: FrameType, event: str, _argument: object) -> None:
        entered = self._entered
        if entered is None or event != "call":
            return
        function = _function_of(frame.f_code)
        if function is None or function in entered or function in self._known or self._is_left_out(frame):
            return
        entered.add(function)

    def _is_left_out(self, innermost: FrameType) -> bool:
        frame: FrameType | None = innermost
        while frame is not None:
            if _path(frame.f_code.co_filename).startswith(self._left_out):
                return True
            frame = frame.f_back
        return False


@cache
def _function_of(code: CodeType) -> Function | None:
    path = _path(code.co_filename)
    if not path.startswith(PRODUCT) or code.co_name.startswith("<"):
        return None
    return Function(path, code.co_qualname)


@cache
def _path(filename: str) -> str:
    """Return the path relative to the repository; empty for other files."""
    root = f"{CHECKOUT}/"
    return filename.removeprefix(root) if filename.startswith(root) else ""
