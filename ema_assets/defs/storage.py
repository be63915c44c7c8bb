"""Dagster's own storage in the project's Postgres, found the way the rest of the project finds it.

`dagster.yaml` names this class. It takes no configuration: the URL comes from EMA_DATABASE_URL or from the embedded
server, is turned into the form Dagster needs, and the schemas are made before Dagster looks for its tables.
"""

from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from ema_assets.settings import Settings, dagster_url
from ema_assets.store.locate import database_url
from ema_assets.store.migrations import migrate


class MarketPostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage on the database of this project, in the schema `dagster`."""

    @classmethod
    def config_type(cls) -> Any:
        """No options."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, _config_value: Any) -> "MarketPostgresStorage":
        """Called by Dagster for each of its processes."""
        url = database_url(Settings.from_env())
        migrate(url)
        return cls(postgres_url=dagster_url(url), inst_data=inst_data)
