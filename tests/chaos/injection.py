"""What every fault is: something begins, and ends."""

from dataclasses import dataclass

from tests.chaos.history import History
from tests.chaos.schedule import Fault
from tests.chaos.world import SERVICES, World


@dataclass
class Injection:
    """One fault of a seed."""

    planned: Fault
    met: int = 0
    """How often it was seen to do something; 0: it did nothing, and shows nothing."""
    what_it_met = ""
    """What `met` counts."""

    @property
    def service(self) -> str:
        """The service that it aims at."""
        return SERVICES[self.planned.aim % len(SERVICES)]

    def about(self, world: World) -> str:
        return self.service

    async def begin(self, world: World, history: History) -> None: ...

    async def end(self, world: World, history: History) -> None: ...
