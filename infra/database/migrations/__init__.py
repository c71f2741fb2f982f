"""The database schema as reviewed migrations (Alembic)."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def migrate(url: str) -> None:
    """Bring the database at `url` (postgresql+asyncpg://...) up to date. Safe to repeat and to run concurrently."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    command.upgrade(config, "head")
