"""Dagster's own storage in the project's Postgres, found the way the rest of the project finds it.

`dagster.yaml` names this class. It takes no configuration: the URL comes from EMA_DATABASE_URL or from the embedded
server, is turned into the form Dagster needs, and the schemas are made before Dagster looks for its tables.
"""

from threading import Lock
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
        """Called by Dagster for each of its instances: the process of a code location makes one for every tick."""
        url = database_url(Settings.from_env())
        with _lock:
            engine = _engines.get(url)
            if engine is None:
                migrate(url)
            # Looking for tables costs three connections and three queries of the catalog; once a process is enough.
            storage = cls(postgres_url=dagster_url(url), should_autocreate_tables=engine is None, inst_data=inst_data)
            if engine is None:
                engine = _new_engine(storage.postgres_url)
                for other in _engines.values():
                    other.dispose()
                _engines.clear()
                _engines[url] = engine
        for part in (storage.event_log_storage, storage.run_storage, storage.schedule_storage):
            part._engine = engine  # noqa: SLF001 - there is no public way; a test watches over it
        return storage


# What all instances of this process share, by URL. One engine is enough: only tests change the database.
_engines: dict[str, sqlalchemy.Engine] = {}
_lock = Lock()


def _new_engine(url: str) -> sqlalchemy.Engine:
    """An engine that keeps its connection between statements.

    Dagster opens one for every event it stores; for a refresh of 100 series that was half of the run's 6 s. The
    webserver does the same to itself. A connection is tried before each use, so that a restart of Postgres is survived.
    """
    return sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=20, pool_recycle=3600, pool_pre_ping=True
    )
