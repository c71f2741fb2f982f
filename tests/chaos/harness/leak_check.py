"""I7 over many seeds: what a process holds at the same quiet point, compared for as long as it lives."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.harness.checker import Violation
from tests.chaos.harness.evidence import Health

WARM = 2
"""Quiet points after which a process has seen what it will see: caches and pools are filled."""

MEGABYTES_ALLOWED, FILES_ALLOWED, CONNECTIONS_ALLOWED = 25, 20, 20
"""What a process may hold more than when it was warm: a pool in use, connections of clients that are kept alive, memory in pieces."""


@dataclass
class LeakCheck:
    """Of one installation; told of its processes after every seed."""

    points: dict[tuple[str, int], list[Health]] = field(default_factory=dict)

    def check(self, processes: Iterable[Health]) -> list[Violation]:
        """Whoever holds more now than when it was warm."""
        found = []
        for now in processes:
            seen = self.points.setdefault((now.name, now.pid), [])
            seen.append(now)
            if len(seen) > WARM and (grown := _grown(seen[WARM - 1], now)):
                found.append(Violation("I7", f"{now.name} grew over {len(seen)} seeds: {grown}"))
        return found


def _grown(then: Health, now: Health) -> str:
    said = [
        f"{what} from {before:.0f} to {after:.0f}"
        for what, before, after, more in (
            ("MB", then.megabytes, now.megabytes, MEGABYTES_ALLOWED),
            ("files", then.files, now.files, FILES_ALLOWED),
            ("connections", then.connections, now.connections, CONNECTIONS_ALLOWED),
        )
        if after > before + more
    ]
    return ", ".join(said)
