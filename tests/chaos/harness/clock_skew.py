"""Change the clock of one process: `datetime.now` in each module of the services, and `time.time`."""

import datetime as real
import importlib.util
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def skew(seconds: float) -> None:
    """Set the clock of this process ahead by these seconds (or behind, if negative)."""
    true_time, by = time.time, real.timedelta(seconds=seconds)
    time.time = lambda: true_time() + seconds

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real.datetime)

    class Skewed(real.datetime, metaclass=Meta):
        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> Any:
            return real.datetime.now(tz) + by

    sys.meta_path.insert(0, _After(Skewed))


class _After(MetaPathFinder):
    """Replace `datetime` in each module of the services after its import."""

    def __init__(self, wrong: type) -> None:
        self._wrong = wrong

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith("services."):
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Given(spec.loader, self._wrong)
        return spec


class _Given(Loader):
    def __init__(self, loader: Any, wrong: type) -> None:
        self._loader, self._wrong = loader, wrong

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if getattr(module, "datetime", None) is real.datetime:
            module.datetime = self._wrong  # type: ignore[attr-defined]  # on purpose
