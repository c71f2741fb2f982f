"""CPU seconds of processes and of the whole machine, and its load."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its children; ended children are in the parent's sum."""
    process = psutil.Process(pid)
    seconds = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
            seconds += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    ended = process.cpu_times()
    return seconds + ended.children_user + ended.children_system


@dataclass(frozen=True)
class Spent:
    """CPU seconds so far: of processes by name, and of the whole machine; and the time of the clock."""

    processes: Mapping[str, float]
    machine: float
    clock: float

    def since(self, earlier: "Spent") -> "Spent":
        """Return what was spent after an earlier time."""
        spent = {name: seconds - earlier.processes.get(name, 0.0) for name, seconds in self.processes.items()}
        return Spent(spent, self.machine - earlier.machine, self.clock - earlier.clock)


def spent(pids: Mapping[str, int]) -> Spent:
    """Return what these processes and the machine have spent so far."""
    times = psutil.cpu_times()
    busy = sum(times[:3]) + sum(getattr(times, name, 0.0) for name in ("irq", "softirq", "steal"))
    return Spent({name: cpu_seconds(pid) for name, pid in pids.items()}, busy, time.monotonic())


def state() -> str:
    """Return the number of cores and the load of the machine, in words."""
    return f"{psutil.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
