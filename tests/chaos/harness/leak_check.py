"""I7 over many plans: compare the memory, files and connections of each process at quiescence until it ends."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.harness.checker import Violation
from tests.chaos.harness.evidence import Health

WARM = 2
"""The measurement after which a process is warm: its caches and pools are filled."""

MEGABYTES_ALLOWED, FILES_ALLOWED, CONNECTIONS_ALLOWED = 25, 20, 20
"""The permitted growth after the warm state: a pool in use, kept-alive connections of clients, fragmented memory."""


@dataclass
class LeakCheck:
    """The measurements of one installation, added after each plan."""

    points: dict[tuple[str, int], list[Health]] = field(default_factory=dict)

    def check(self, processes: Iterable[Health]) -> list[Violation]:
        """Add a measurement, and return the processes that hold more than permitted."""
        found = []
        for now in processes:
            seen = self.points.setdefault((now.name, now.pid), [])
            seen.append(now)
            if len(seen) > WARM and (grown := _grown(seen[WARM - 1], now)):
                found.append(Violation("I7", f"{now.name} grew over {len(seen)} seeds: {grown}"))
        return found


def _grown(then: Health, now: Health) -> str:
    found = [
        f"{what} from {before:.0f} to {after:.0f}"
        for what, before, after, more in (
            ("MB", then.megabytes, now.megabytes, MEGABYTES_ALLOWED),
            ("files", then.files, now.files, FILES_ALLOWED),
            ("connections", then.connections, now.connections, CONNECTIONS_ALLOWED),
        )
        if after > before + more
    ]
    return ", ".join(found)
