"""Settings are read strictly: unknown names are warned of, files with secrets belong to their owner alone, ports are fixed."""

import os
from pathlib import Path

import pytest

from infra.local.embedded import ports_and_secrets
from services.intake.mllp import access
from services.notifier import app as notifier
from services.runtime import settings
from services.runtime.settings import FileRefused, Settings

OPEN = (0o640, 0o604, 0o620, 0o602, 0o644)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The secret of a service whose environment has no other settings than the required ones."""
    for name in [name for name in os.environ if name.startswith("LIGHTBULB_")]:
        monkeypatch.delenv(name)
    ports_and_secrets.secret(tmp_path / "secret")
    monkeypatch.setenv("LIGHTBULB_DATABASE", "postgresql+asyncpg://u:p@127.0.0.1:1/none")
    monkeypatch.setenv("LIGHTBULB_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("LIGHTBULB_SECRET_FILE", str(tmp_path / "secret"))
    return tmp_path / "secret"


def test_each_service_has_a_port_of_its_own_unless_one_is_set(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [settings.load(service).http_port for service in ("intake", "router", "notifier")]
    assert ports == [8080, 8081, 8082]
    for port in (0, 9000):
        monkeypatch.setenv("LIGHTBULB_HTTP_PORT", str(port))
        assert settings.load("intake").http_port == port


def test_a_name_that_nothing_reads_is_named_with_the_most_similar_one(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LIGHTBULB_HTP_PORT", "LIGHTBULB_XYZZY", "LIGHTBULB_DATA", "LIGHTBULB_CONTAINERS"):
        monkeypatch.setenv(name, "a value")
    assert list(settings.unknown()) == [("LIGHTBULB_HTP_PORT", "LIGHTBULB_HTTP_PORT"), ("LIGHTBULB_XYZZY", None)]


@pytest.mark.parametrize("mode", OPEN)
def test_a_secret_that_others_may_read_or_write_is_refused_in_one_line(
    secret: Path, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    secret.chmod(mode)
    with pytest.raises(SystemExit) as ended:
        settings.load("router")
    assert ended.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert f"LIGHTBULB_SECRET_FILE: {secret} is open to other users" in line
    assert f"chmod 600 {secret}" in line
    secret.chmod(0o400)
    assert len(settings.load("router").secret()) >= 32


def test_a_file_of_another_user_is_not_judged_as_ssh_does_not(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a secret that Kubernetes mounts: its owner is root, and its mode is not ours to change."""
    secret.chmod(0o644)
    monkeypatch.setattr(os, "getuid", lambda: secret.stat().st_uid + 1)
    assert len(settings.load("router").secret()) >= 32


def test_a_private_key_of_mllp_that_others_may_read_is_refused(secret: Path) -> None:
    secret.chmod(0o640)
    chosen = Settings(mllp_tls_port=1, mllp_certificate=secret, mllp_key=secret, mllp_client_ca=secret)
    with pytest.raises(FileRefused, match=r"LIGHTBULB_MLLP_KEY: .* is open to other users"):
        access.context(chosen)


@pytest.mark.parametrize(("mode", "named"), [(None, "No such file"), (0o644, "is open to other users")])
async def test_a_feedback_token_that_is_missing_or_open_to_others_is_refused_at_start(
    secret: Path, tmp_path: Path, mode: int | None, named: str
) -> None:
    token = tmp_path / "token"
    if mode is not None:
        token.write_text("token")
        token.chmod(mode)
    deployment = tmp_path / "deployment.yaml"
    deployment.write_text(
        f"partners: {{gp-alder-lane: {{feedback_url: 'https://gp.example.org', feedback_token_file: {token}}}}}"
    )
    with pytest.raises(FileRefused, match=f"deployment.yaml: gp-alder-lane: feedback_token_file: {token}.*{named}"):
        await notifier.main(Settings(deployment=deployment))
