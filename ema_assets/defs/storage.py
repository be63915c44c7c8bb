"""Dagster's own storage in the project's Postgres, found the way the rest of the project finds it.

`dagster.yaml` names this class. It takes no configuration: the URL comes from EMA_DATABASE_URL or from the embedded
server, is turned into the form Dagster needs, and the schemas are made before Dagster looks for its tables.
"""

from typing import Any

import sqlalchemy
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from ema_assets.settings import Settings, dagster_url
from ema_assets.store.locate import database_url
from ema_assets.store.migrations import migrate


class MarketPostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage on the database of this project, in the schema `dagster`, over held connections."""

    @classmethod
    def config_type(cls) -> Any:
        """No options."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, _config_value: Any) -> "MarketPostgresStorage":
        """Called by Dagster for each of its processes."""
        url = database_url(Settings.from_env())
        migrate(url)
        storage = cls(postgres_url=dagster_url(url), inst_data=inst_data)
        for part in (storage.event_log_storage, storage.run_storage, storage.schedule_storage):
            _hold_connections(part, storage.postgres_url)
        return storage


def _hold_connections(part: Any, url: str) -> None:
    """Let `part` keep its connection between statements.

    Dagster opens one for every event it stores; for a refresh of 100 series that was half of the run's 6 s. The
    webserver does the same to itself. A connection is tried before each use, so that a restart of Postgres is survived.
    """
    part._engine = sqlalchemy.create_engine(  # noqa: SLF001 - there is no public way; a test watches over it
        url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=20, pool_recycle=3600, pool_pre_ping=True
    )
