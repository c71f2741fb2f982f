"""Start a server, and stop it when standard input closes, so that it does not outlive its owner.

Standard input is the read end of a pipe whose write end only the owner holds: it closes when the owner closes it or
is killed. The server gets its stop signal; after the grace period its process group is killed. Standard output gets
the server's process id, or the reason why it could not be started. The exit code is the server's (128 + n after
signal n). A log that has become too large is rotated. Runs as a script that imports no other module of the project;
process.py gives the arguments.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-signal", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--largest-log", type=int, required=True)
    parser.add_argument("--pid-file", type=Path, required=True)
    parser.add_argument("--user", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def start(options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    with open(options.log, "ab") as log:
        return subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            user=options.user,
            group=options.group,
            extra_groups=None if options.user is None else [],
        )


def write_pid_file(path: Path, server: int, stop_signal: int) -> None:
    """Write both processes with start times, so that a later process with the same number is not mistaken for one."""
    import psutil  # after the server's start, so that its import does not delay it

    def describe(pid: int) -> dict[str, float]:
        return {"pid": pid, "started": psutil.Process(pid).create_time(), "stop_signal": stop_signal}

    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"server": describe(server), "watcher": describe(os.getpid())}))
    unfinished.replace(path)


def leave(server: "subprocess.Popen[bytes]", pid_file: Path) -> NoReturn:
    """After the server's end, kill the rest of its group and remove the pid file; exit with its code."""
    code = server.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)
    os._exit(code if code >= 0 else 128 - code)


def rotate(log: str, largest: int) -> None:
    """Copy a log that is too large to LOG.old and empty it: the server appends, and keeps its file open.

    What it writes between the two is lost. A full disk, or a folder that was deleted, changes nothing.
    """
    while True:
        time.sleep(ROTATE_SECONDS)
        with contextlib.suppress(OSError):
            if os.stat(log).st_size > largest:
                shutil.copy(log, f"{log}.old")
                os.truncate(log, 0)


ROTATE_SECONDS = 1.0


def stop(server: "subprocess.Popen[bytes]", stop_signal: int, grace: float) -> None:
    server.send_signal(stop_signal)
    try:
        server.wait(grace)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, lambda *_: None)  # a handler, not SIG_IGN: the server must not inherit it
    options = arguments()
    try:
        server = start(options)
    except OSError as problem:
        refuse(f"{options.command[0]}: {problem.strerror}")
    try:
        write_pid_file(options.pid_file, server.pid, options.stop_signal)
    except Exception as problem:
        os.killpg(server.pid, signal.SIGKILL)
        refuse(f"{options.pid_file}: {problem}")
    write_line(str(server.pid))
    threading.Thread(target=leave, args=(server, options.pid_file), daemon=True).start()
    threading.Thread(target=rotate, args=(options.log, options.largest_log), daemon=True).start()
    while os.read(0, 4096):
        pass
    stop(server, options.stop_signal, options.grace)
    leave(server, options.pid_file)


def write_line(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def refuse(reason: str) -> NoReturn:
    write_line(reason)
    sys.exit(127)


if __name__ == "__main__":
    main()
