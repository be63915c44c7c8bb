"""Where the database is: the user's own, or the embedded server that `ema-assets up` started."""

from ema_assets.config.settings import Settings
from ema_assets.model.errors import StoreUnavailable
from ema_assets.runtime.postgres.server import read_running


def database_url(settings: Settings) -> str:
    """The URL (libpq form) of the database in use.

    Raises:
        StoreUnavailable: when EMA_DATABASE_URL is not set and no embedded server of this EMA_HOME runs.
    """
    if settings.database_url is not None:
        return settings.database_url
    url = read_running(settings.postgres_folder)
    if url is None:
        raise StoreUnavailable(
            f"no database: EMA_DATABASE_URL is not set and no embedded PostgreSQL runs for {settings.home}; "
            "start everything with `ema-assets up`, or set EMA_DATABASE_URL"
        )
    return url
