"""What the kernel does for a process of ours: no image of its memory on a disk, and as many files as it may have."""

import contextlib
import resource

NO_CORE = 1
"""Bytes of a core file: fewer than any has, so none is written. Unlike 0, it also keeps the kernel from handing the image to a program
(core_pattern with a pipe), which knows no limit otherwise; see core(5) and do_coredump of Linux."""

FILES = 65_536
"""Files and connections, where the installation allows more than its shells begin with."""


def apply_limits() -> None:
    """Whoever is in memory stays there, also where the process dies of a fault."""
    resource.setrlimit(resource.RLIMIT_CORE, (at_most(resource.RLIMIT_CORE, NO_CORE),) * 2)
    files, most = at_most(resource.RLIMIT_NOFILE, FILES), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def at_most(what: int, desired: int) -> int:
    """As much of it as this process may ask for."""
    most = resource.getrlimit(what)[1]
    return desired if most == resource.RLIM_INFINITY else min(desired, most)
