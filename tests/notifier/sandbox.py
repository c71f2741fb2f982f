"""The MESH sandbox for a run of tests."""

from collections.abc import Iterator

import pytest

from infra.local.embedded import mesh
from tests.notifier.mesh_box import MAILBOXES


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mesh.MeshSandbox]:
    running = mesh.start(tmp_path_factory.mktemp("mesh"), MAILBOXES)
    yield running
    running.stop()
