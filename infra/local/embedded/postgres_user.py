"""PostgreSQL refuses to run as root: choose another account for it, and make its paths accessible."""

import contextlib
import os
import pwd
import stat
import subprocess
from pathlib import Path

from infra.local.embedded.process import Account

PREFERRED, ALWAYS_THERE = "pgserver", "nobody"


def for_postgres(folder: Path, programs: Path) -> Account:
    """Return the current account unless it is root; else `pgserver`, created if possible, or `nobody`.

    `pgserver` is the account of the wheel's own launcher. Every folder above `folder` and `programs` becomes passable
    (not listable) for all users.
    """
    if os.geteuid() != 0:
        return Account()
    entry = _entry(PREFERRED) or _made(PREFERRED) or pwd.getpwnam(ALWAYS_THERE)
    _open_way_to(folder)
    _open_way_to(programs)
    if not (programs / "postgres").stat().st_mode & stat.S_IXOTH:
        _make_readable(programs.parent)
    return Account(entry.pw_uid, entry.pw_gid)


def _entry(name: str) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    return None


def _made(name: str) -> pwd.struct_passwd | None:
    with contextlib.suppress(OSError):
        subprocess.run(["useradd", "--system", "--no-create-home", name], capture_output=True, check=False)
    return _entry(name)


def give(path: Path, account: Account) -> None:
    if account.user is not None and account.group is not None:
        os.chown(path, account.user, account.group)


def _open_way_to(folder: Path) -> None:
    for step in (folder, *folder.parents):
        mode = step.stat().st_mode
        if not mode & stat.S_IXOTH:
            step.chmod(mode | stat.S_IXOTH)


def _make_readable(installation: Path) -> None:
    """Make an installation readable for all that was created under a strict umask; keep its executable bits."""
    for path in (installation, *installation.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
