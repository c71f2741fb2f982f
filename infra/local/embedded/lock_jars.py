"""Write jgo.lock.toml from jgo.toml: Apache Kafka's jars and their dependencies with SHA-256 (`make lock`)."""

import tempfile
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.env import EnvironmentBuilder, EnvironmentSpec, LockFile
from jgo.maven import MavenContext

from infra.local.embedded.jars import HERE, LOCK


def main() -> None:
    spec = EnvironmentSpec.load(HERE / "jgo.toml")
    with tempfile.TemporaryDirectory() as folder:
        repositories = GlobalSettings.load().repositories or None
        maven = MavenContext(repo_cache=Path(folder), remote_repos=repositories, timeout=30)
        dependencies = EnvironmentBuilder(maven, cache_dir=Path(folder)).spec_to_dependencies(spec)
        named, needed = maven.resolver.resolve(dependencies)
        LockFile.from_resolved_dependencies(named + needed, environment_name=spec.name).save(LOCK)


if __name__ == "__main__":
    main()
