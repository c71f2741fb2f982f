"""What every fault is: something begins, and ends."""

from dataclasses import dataclass

from tests.chaos.harness.cluster import SERVICES, Cluster
from tests.chaos.harness.history import History
from tests.chaos.harness.schedule import PlannedFault


@dataclass
class Injection:
    """One fault of a seed."""

    planned: PlannedFault
    met: int = 0
    """How often it was seen to do something; 0: it did nothing, and shows nothing."""
    what_it_met = ""
    """What `met` counts."""

    @property
    def service(self) -> str:
        """The service that it aims at."""
        return SERVICES[self.planned.aim % len(SERVICES)]

    def target(self, cluster: Cluster) -> str:
        return self.service

    async def begin(self, cluster: Cluster, history: History) -> None: ...

    async def end(self, cluster: Cluster, history: History) -> None: ...
