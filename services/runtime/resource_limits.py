"""Resource limits of a process: no core file, and as many open files as permitted."""

import contextlib
import resource

NO_CORE = 1
"""Maximum size of a core file in bytes, too small for any.

Unlike 0, 1 also prevents a core dump to a program (core_pattern with a pipe), which otherwise ignores the limit; see core(5) and
do_coredump of Linux.
"""

FILES = 65_536
"""Desired number of open files and connections; lower if the hard limit is lower."""


def apply_limits() -> None:
    """Disable core files, which would hold personal data, and raise the limit of open files."""
    resource.setrlimit(resource.RLIMIT_CORE, (at_most(resource.RLIMIT_CORE, NO_CORE),) * 2)
    files, most = at_most(resource.RLIMIT_NOFILE, FILES), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def at_most(what: int, desired: int) -> int:
    """Return the desired limit, or the hard limit if that is lower."""
    most = resource.getrlimit(what)[1]
    return desired if most == resource.RLIM_INFINITY else min(desired, most)
