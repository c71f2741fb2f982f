"""The base class of faults."""

from dataclasses import dataclass

from tests.chaos.harness.cluster import SERVICES, Cluster
from tests.chaos.harness.history import History
from tests.chaos.harness.load import Load
from tests.chaos.harness.schedule import PlannedFault


@dataclass
class Injection:
    """A planned fault with its injection."""

    planned: PlannedFault
    load: Load
    met: int = 0
    """How often an effect of the fault was observed; 0: it had none."""
    what_it_met = ""
    """What `met` counts."""
    grace = 0.0
    """Seconds after its beginning in which everybody may wait, also if `holds` names who may."""

    @property
    def holds(self) -> str | None:
        """The topic or recipient that may wait while the fault stands, "" if none may; None if everybody may."""
        return None

    @property
    def service(self) -> str:
        """The affected service."""
        return SERVICES[self.planned.aim % len(SERVICES)]

    def target(self, cluster: Cluster) -> str:
        return self.service

    async def begin(self, cluster: Cluster, history: History) -> None: ...

    async def end(self, cluster: Cluster, history: History) -> None: ...

    async def repair(self, cluster: Cluster, history: History) -> None:
        """Do what an operator has to do after the fault has ended."""
