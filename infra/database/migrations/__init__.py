"""The database schema as reviewed migrations (Alembic)."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from services.runtime import StartupError


class SchemaDiffers(StartupError):
    """The database was made by other migrations than those of this version; the text says what to do."""


def migrate(url: str) -> None:
    """Bring the database at `url` (postgresql+asyncpg://...) up to date. Safe to repeat and to run concurrently.

    Raises SchemaDiffers.
    """
    config = _config()
    config.attributes["url"] = url
    config.attributes["digests"] = digests()
    command.upgrade(config, "head")


@cache
def digests() -> Mapping[str, str]:
    """Return the SHA-256 of the statements up to each revision, by revision. It is stored with the schema."""
    scripts = list(ScriptDirectory.from_config(_config()).walk_revisions())
    digest, found = hashlib.sha256(), {}
    for script in reversed(scripts):
        for statement in script.module.STATEMENTS:
            digest.update(" ".join(statement.split()).encode() + b";")
        found[script.revision] = digest.hexdigest()
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
