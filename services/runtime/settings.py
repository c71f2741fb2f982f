"""Settings of a service process, from its environment; report what is missing or not valid."""

import difflib
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.runtime import StartupError

CHECKOUT = Path(__file__).resolve().parents[2]

HTTP_PORTS = {"intake": 8080, "router": 8081, "notifier": 8082}
"""The port of each service for HTTP if LIGHTBULB_HTTP_PORT is not set."""

NOT_OF_SERVICES = ("DATA", "CACHE", "CONTAINERS", "HOSTILE")
"""Further LIGHTBULB_ variables, which commands and tests read."""


class Settings(BaseSettings):
    """Environment variables LIGHTBULB_<NAME>; docs/settings.md is generated from the descriptions here."""

    model_config = SettingsConfigDict(env_prefix="LIGHTBULB_", frozen=True, hide_input_in_errors=True)

    database: str = Field(
        pattern=r"^postgresql\+asyncpg://",
        description="PostgreSQL, as postgresql+asyncpg://user:password@host:port/database. The user of a process is the role of its"
        " service: lightbulb_intake, lightbulb_router or lightbulb_notifier",
    )
    kafka: str = Field(min_length=3, description="Kafka bootstrap servers, as host:port,host:port")
    secret_file: Path = Field(
        description="File with at least 32 random bytes, readable by its owner only. Person keys and references are derived from it:"
        " keep it as long as the database; it cannot be rotated"
    )
    directory: Path = Field(
        CHECKOUT / "infra" / "reference_data", description="Folder of reviewed data: hubs, services, partners"
    )
    deployment: Path | None = Field(
        None,
        description="deployment.yaml of this installation: partners' credentials, MLLP ports, feedback endpoints",
    )
    http_host: str = Field("127.0.0.1", description="Address on which the service listens for HTTP")
    http_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port for HTTP, by default "
        + ", ".join(f"{port} ({service})" for service, port in HTTP_PORTS.items())
        + "; 0 takes a free one. Processes of one service on one machine may share a port",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        description="Time that an HTTP connection may be idle between two requests; longer than that of the proxy or load balancer in front"
        " (usually 60 s), which would otherwise send a request to a connection that is being closed",
    )
    stop_delay_seconds: float = Field(
        5.0,
        ge=0,
        le=600,
        description="After SIGTERM `/health/ready` answers 503 for this time before the process stops listening, so that a load balancer"
        " sends it nothing more",
    )
    mllp_host: str = Field(
        "127.0.0.1",
        description="Address on which intake listens for MLLP, on the ports that deployment.yaml gives to partners",
    )
    mllp_tls_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port for MLLP over TLS, for partners with a client certificate; without it there is no such port",
    )
    mllp_certificate: Path | None = Field(None, description="Server certificate of that port with its chain, PEM")
    mllp_key: Path | None = Field(None, description="Private key of that certificate, PEM, readable by its owner only")
    mllp_client_ca: Path | None = Field(
        None, description="Certificate authorities that client certificates must be issued by, PEM"
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of this process for /metrics and /health, separate from the port that partners reach; without it they are"
        " on the HTTP port",
    )
    intake_url: str | None = Field(
        None, description="Reserved: address at which hubs reach intake for attachments. No service reads it yet"
    )
    notifier_url: str | None = Field(
        None, description="Reserved: address at which partners fetch their feedback. No service reads it yet"
    )
    mesh_url: str | None = Field(None, description="URL of the MESH API; without it nothing is sent by MESH")
    mesh_mailbox: str | None = Field(None, description="MESH mailbox of this installation")
    mesh_password: SecretStr | None = Field(None, description="Password of that mailbox")
    mesh_shared_key: SecretStr | None = Field(None, description="Shared key of the MESH environment")
    feedback_give_up_after: float = Field(
        604_800.0,
        ge=1,
        description="Seconds after its first attempt, or since it has been due if its endpoint gets no attempts, after which feedback that"
        " could not be delivered fails finally; the default is 7 days",
    )
    feedback_unfetched_after: float = Field(
        604_800.0,
        ge=1,
        description="Seconds after which feedback that is kept for its recipient to fetch counts as unfetched; the default is 7 days",
    )
    replication: int = Field(1, ge=1, le=5, description="Replication factor that the topics must have")
    kafka_idempotent: bool = Field(True, description="False only for a broker without idempotent producers (Tansu)")
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest message that intake accepts, in bytes")
    service_ids: Annotated[tuple[str, ...], NoDecode] = Field(
        ("https://fhir.nhs.uk/Id/dos-service-id|2000099999",),
        description="Identifiers of this service as system|value, separated by blanks: a FHIR message whose destination or"
        " NHSD-Target-Identifier names another one is refused. The default is that of the demonstration",
    )
    messages_per_second: int = Field(
        200,
        ge=1,
        description="Messages per second that one intake process accepts from each partner, unless partners.yaml gives its own rate",
    )
    overdue_seconds: float = Field(
        600.0,
        ge=0.1,
        description="How often, in seconds, each router process looks for patients whose expected date of discharge passed two days"
        " ago without word from the hospital",
    )
    dead_letter_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="If more than this share of the latest 100 or more records of a topic would become dead letters, the topic pauses"
        " and nothing of it is stored. 1: no topic pauses",
    )
    stall_seconds: float = Field(
        60.0,
        ge=0.5,
        description="Seconds after which a process that has work and makes no progress exits with code 75, so that it is restarted",
    )
    traces: str | None = Field(
        None,
        pattern=r"^(https?://.+|file:.+)$",
        description="Where spans are sent: the URL of an OpenTelemetry collector (http://HOST:4318/v1/traces), or file:PATH for JSON"
        " lines. Needs the extra `tracing`; without this setting nothing is traced",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged")
    log_format: Literal["json", "console"] = Field("json", description="Log format: json or console")

    @field_validator("service_ids", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("service_ids")
    @classmethod
    def _has_identifiers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(re.fullmatch(r"[^|\s]+\|[^|\s]+", one) for one in value):
            raise ValueError("must be one or more of system|value, separated by blanks")
        return value

    def secret(self) -> bytes:
        """Return the bytes of `secret_file`. Raises FileRefused."""
        return read_secret(self.secret_file)


class FileRefused(StartupError):
    """A file with a secret cannot be used; the text names the setting, the file and what to do."""


def read_secret(file: Path) -> bytes:
    """Return the bytes of the installation's secret. Raises FileRefused."""
    check_private(file, "LIGHTBULB_SECRET_FILE")
    secret = file.read_bytes()
    if len(secret) < 32:
        raise FileRefused("LIGHTBULB_SECRET_FILE: at least 32 random bytes are expected in the file")
    return secret


def check_private(file: Path, setting: str) -> None:
    """Raise FileRefused if the file cannot be read, or, as ssh does, if it is this user's and others have access to it."""
    try:
        with file.open("rb") as opened:
            found = os.fstat(opened.fileno())
    except OSError as error:
        raise FileRefused(f"{setting}: {file}: {error.strerror}") from None
    if found.st_uid == os.getuid() and stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise FileRefused(f"{setting}: {file} is open to other users (mode {mode:04o}); run `chmod 600 {file}`")


def from_environment(name: str) -> str | None:
    """Return one setting, or None if it is not set."""
    return os.environ.get(f"LIGHTBULB_{name.upper()}")


def unknown() -> Iterator[tuple[str, str | None]]:
    """Yield each LIGHTBULB_ variable that nothing reads, with the most similar name that is read; never a value."""
    known = [*map(str.upper, Settings.model_fields), *NOT_OF_SERVICES]
    for variable in sorted(os.environ):
        prefix, _, name = variable.upper().partition("_")
        if prefix == "LIGHTBULB" and name not in known:
            similar = difflib.get_close_matches(name, known, 1)
            yield variable, f"LIGHTBULB_{similar[0]}" if similar else None


def load(service: str) -> Settings:
    """Return the settings of a service; if one is missing or not valid, print its name and what is expected and exit with 1."""
    try:
        settings = Settings()
        settings.secret()
    except ValidationError as error:
        issues = [
            f"LIGHTBULB_{str(issue['loc'][0]).upper()}: {issue['msg']}" for issue in error.errors(include_input=False)
        ]
        _refuse(service, "; ".join(issues))
    except FileRefused as error:
        _refuse(service, str(error))
    given = settings.http_port
    return settings.model_copy(update={"http_port": HTTP_PORTS.get(service, 0) if given is None else given})


def _refuse(service: str, why: str) -> None:
    sys.stderr.write(f"Cannot start {service}: {why}. See docs/settings.md.\n")
    raise SystemExit(1)
