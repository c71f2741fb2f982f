"""What a service is told by its environment, and how it says that something there is wrong."""

import os
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

CHECKOUT = Path(__file__).resolve().parents[2]


class Settings(BaseSettings):
    """Environment variables LIGHTBULB_<NAME>; the table in the README is made from the descriptions here."""

    model_config = SettingsConfigDict(env_prefix="LIGHTBULB_", frozen=True, hide_input_in_errors=True)

    database: str = Field(
        pattern=r"^postgresql\+asyncpg://",
        description="PostgreSQL, as postgresql+asyncpg://user:password@host:port/database",
    )
    kafka: str = Field(min_length=3, description="Kafka bootstrap servers, as host:port,host:port")
    secret_file: Path = Field(
        description="File with at least 32 random bytes, owner-only: makes person keys and references; never rotated"
    )
    directory: Path = Field(
        CHECKOUT / "infra" / "directory", description="Folder of reviewed data: hubs, services, partners"
    )
    deployment: Path | None = Field(
        None,
        description="deployment.yaml of this installation: partners' credentials and ports, addresses for their feedback",
    )
    http_host: str = Field("127.0.0.1", description="Address on which the service answers HTTP")
    http_port: int = Field(
        0, ge=0, le=65535, description="Its port; 0 takes a free one. Two processes may share a port"
    )
    mllp_host: str = Field(
        "127.0.0.1",
        description="Address on which intake speaks MLLP, on the ports that deployment.yaml gives to partners",
    )
    mllp_tls_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of MLLP over TLS, for every partner with a client certificate; none without it",
    )
    mllp_certificate: Path | None = Field(None, description="Certificate of that port, with its chain, in PEM")
    mllp_key: Path | None = Field(None, description="Its private key in PEM, owner-only")
    mllp_client_ca: Path | None = Field(
        None, description="Authorities that clients' certificates must come from, in PEM"
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on which this process alone answers /metrics and /health, apart from what partners reach; without"
        " it they are on its HTTP port",
    )
    intake_url: str | None = Field(None, description="Where hubs reach intake, for attachments")
    notifier_url: str | None = Field(None, description="Where partners fetch their feedback")
    mesh_url: str | None = Field(None, description="MESH API; without it no letter is sent by MESH")
    mesh_mailbox: str | None = Field(None, description="Our own MESH mailbox")
    mesh_password: SecretStr | None = Field(None, description="Its password")
    mesh_shared_key: SecretStr | None = Field(None, description="The shared key of the MESH environment")
    replication: int = Field(1, ge=1, le=5, description="Replication factor that the topics must have")
    kafka_idempotent: bool = Field(True, description="False only for a broker without idempotent producers (Tansu)")
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest message that intake accepts, in bytes")
    messages_per_second: int = Field(
        200,
        ge=1,
        description="How many messages one process of intake takes from each partner in a second, where partners.yaml says nothing else",
    )
    stall_seconds: float = Field(
        60.0,
        ge=0.5,
        description="A process that has work and gets no further for so long ends itself, to be started anew",
    )
    traces: str | None = Field(
        None,
        pattern=r"^(https?://.+|file:.+)$",
        description="Where traces go: the URL of an OpenTelemetry collector (http://HOST:4318/v1/traces), or file:PATH for JSON lines;"
        " needs the extra `tracing`; without it none are kept",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much is logged")
    log_format: Literal["json", "console"] = Field("json", description="How logs are written")

    def secret(self) -> bytes:
        """The bytes of `secret_file`; raises ValueError where they are too few, OSError where there is no such file."""
        secret = self.secret_file.read_bytes()
        if len(secret) < 32:
            raise ValueError("LIGHTBULB_SECRET_FILE: at least 32 random bytes are expected in the file")
        return secret


def from_environment(name: str) -> str | None:
    """One setting, where it is set."""
    return os.environ.get(f"LIGHTBULB_{name.upper()}")


def load() -> Settings:
    """The settings; where one is missing or wrong, its name and what is expected go to stderr, and the process ends with 1."""
    try:
        settings = Settings()
        settings.secret()
    except ValidationError as error:
        faults = [
            f"LIGHTBULB_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors(include_input=False)
        ]
        _refuse([*faults, "See the table of settings in README.md."])
    except (OSError, ValueError) as error:
        _refuse([str(error) if isinstance(error, ValueError) else f"LIGHTBULB_SECRET_FILE: {error.strerror}"])
    return settings


def _refuse(lines: list[str]) -> None:
    sys.stderr.write("Cannot start: the settings are not complete.\n" + "".join(f"  {line}\n" for line in lines))
    raise SystemExit(1)
