"""What every fault is: something begins, and ends."""

from dataclasses import dataclass

from tests.chaos.history import History
from tests.chaos.seed import Fault
from tests.chaos.world import SERVICES, World


@dataclass
class Injection:
    """One fault of a seed."""

    planned: Fault

    @property
    def service(self) -> str:
        """The service that it aims at."""
        return SERVICES[self.planned.aim % len(SERVICES)]

    def about(self, world: World) -> str:
        return self.service

    async def begin(self, world: World, history: History) -> None: ...

    async def end(self, world: World, history: History) -> None: ...
