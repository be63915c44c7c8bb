"""Detection of a connection pooler, such as PgBouncer: refused if Dagster would not find its tables through it."""

from contextlib import closing

import psycopg2

from ema_assets.model.errors import StoreError
from ema_assets.model.urls import masked_url

# The schema that model/urls.py sets for Dagster, whose statements name none.
_SCHEMA = "dagster"
_ADVICE = "such as PgBouncer; set EMA_DATABASE_URL to host and port of the server itself"


def check_direct(url: str) -> None:
    """Refuse a database at `url` (libpq form) whose sessions do not keep the schema that Dagster sets.

    Dagster would create its tables in another schema, where nothing here would find them. Does nothing when the server
    cannot be reached: the next connection reports that.

    Raises:
        StoreError: when the schema is refused or dropped; it names a pooler as the reason.
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
