"""A pooler of connections, such as PgBouncer, before the server: refused where Dagster would lose its tables."""

from contextlib import closing

import psycopg2

from ema_assets.model.errors import StoreError
from ema_assets.model.urls import masked_url

# As model/urls.py has it for Dagster, whose statements name no schema.
_SCHEMA = "dagster"
_ADVICE = "such as PgBouncer; set EMA_DATABASE_URL to host and port of the server itself"


def check_direct(url: str) -> None:
    """Refuse a database at `url` (libpq form) whose sessions do not keep the schema that Dagster asks for.

    Without it Dagster would make its tables beside those of others, and nothing here would find them. Says nothing
    of a server that cannot be reached: whoever connects next says that.

    Raises:
        StoreError: naming the pooler as the reason.
    """
    try:
        connection = psycopg2.connect(url, connect_timeout=10, options=f"-csearch_path={_SCHEMA}")
    except psycopg2.OperationalError as error:
        if "startup parameter" in str(error):
            raise StoreError(
                f"{masked_url(url)} takes no schema for a session, which Dagster needs: it is a pooler, {_ADVICE}"
            ) from None
        return
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        if cursor.fetchone() != (_SCHEMA,):
            raise StoreError(
                f"{masked_url(url)} drops the schema of a session, which Dagster needs: it is a pooler, {_ADVICE}"
            )
