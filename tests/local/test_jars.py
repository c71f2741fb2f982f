import os
import shutil
from pathlib import Path

import pytest

from infra.local.embedded import jars
from infra.local.embedded.jars import Jar, JarRefused, JarsMissing
from tests.local.programs import unreachable


def forged(jar: Jar, folder: Path) -> Path:
    (folder / "jar").write_bytes(b"not what the lock file names")
    return folder / "jar"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with every jar, of which one may be replaced."""
    shutil.copytree(jars.class_path()[0].parent, tmp_path / "jars", copy_function=os.link)
    return tmp_path


def test_the_class_path_has_exactly_the_jars_of_the_lock_file(cache: Path) -> None:
    (cache / "jars" / "stray.jar").touch()
    names = [file.name for file in jars.class_path(cache, unreachable)]
    assert names == [jar.file_name for jar in jars.locked()]
    assert len(set(names)) == len(names)
    assert "kafka_2.13-4.3.0.jar" in names


def test_a_modified_jar_is_refused_by_name(cache: Path) -> None:
    victim = cache / "jars" / "kafka-clients-4.3.0.jar"
    content = victim.read_bytes()
    victim.unlink()  # it shares its content with the real cache
    victim.write_bytes(content[:-1] + b"!")
    with pytest.raises(JarRefused, match=r"kafka-clients-4\.3\.0\.jar is not org\.apache\.kafka:kafka-clients:4\.3\.0"):
        jars.class_path(cache, unreachable)


def test_a_downloaded_jar_with_a_wrong_hash_is_not_cached(tmp_path: Path) -> None:
    with pytest.raises(JarRefused, match="Nothing was started"):
        jars.class_path(tmp_path, forged)
    assert list((tmp_path / "jars").glob("*")) == []


def test_a_jar_that_cannot_be_downloaded_is_named_with_the_next_step(cache: Path) -> None:
    (cache / "jars" / "snakeyaml-2.5.jar").unlink()
    with pytest.raises(JarsMissing, match=r"org\.yaml:snakeyaml:2\.5, one of 1 missing .* set LIGHTBULB_CACHE"):
        jars.class_path(cache, unreachable)


def test_only_missing_jars_are_downloaded(cache: Path, tmp_path: Path) -> None:
    kept = (cache / "jars" / "snakeyaml-2.5.jar").rename(tmp_path / "kept")
    asked: list[str] = []

    def fetch(jar: Jar, folder: Path) -> Path:
        asked.append(jar.artifact)
        return kept.rename(folder / "arrived")

    jars.class_path(cache, fetch)
    assert asked == ["snakeyaml"]
