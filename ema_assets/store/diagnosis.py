"""Properties of the server and the database, and the applied migrations, for checks that change nothing. SQL only."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ema_assets.store.database import Transaction

# Each process of Dagster and each run has some: a running stack with four run slots uses about twenty.
CONNECTIONS_IN_USE = 20


@dataclass(frozen=True, slots=True)
class Server:
    """The server, the role that is logged in and the database.

    `version` is PostgreSQL's number, 180004 for 18.4. `connections` is the limit of the server, the role or the
    database, whichever leaves the fewest free; `connections_free` is how many are left. `bytes` is the size of the
    database. `unix_seconds` is the server's clock. `may_write` is whether the role can create or fill the tables,
    `may_read` whether it can read the existing ones; None while there are none. `is_read_only` is whether transactions
    of the role begin as read-only ones here, whatever rights it has. `has_autovacuum` is whether the server removes
    dead rows by itself, for which it must also count them.
    """

    version: int
    role: str
    encoding: str
    is_standby: bool
    may_write: bool
    may_read: bool | None
    connections: int
    connections_free: int
    bytes: int
    unix_seconds: float
    is_read_only: bool = False
    has_autovacuum: bool = True

    @property
    def version_text(self) -> str:
        """The version as text, such as `18.4`."""
        return f"{self.version // 10_000}.{self.version % 10_000}"

    @property
    def has_few_connections(self) -> bool:
        """Whether fewer connections are free than a running stack uses."""
        return self.connections_free < CONNECTIONS_IN_USE


def server(transaction: Transaction) -> Server:
    """Return the properties of the server, the role and the database."""
    found = transaction.query(
        """
        SELECT current_setting('server_version_num')::bigint AS version, current_user::text AS role,
               current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby,
               coalesce(has_schema_privilege(to_regnamespace('market')::oid, 'CREATE'),
                        has_database_privilege(current_database(), 'CREATE')) AS may_write,
               (SELECT bool_and(has_schema_privilege(oid, 'USAGE')) FROM pg_namespace
                WHERE nspname IN ('market', 'ema_assets')) AS may_read,
               limits.*,
               pg_database_size(current_database()) AS bytes,
               extract(epoch FROM clock_timestamp())::float8 AS unix_seconds,
               current_setting('default_transaction_read_only')::boolean AS is_read_only,
               current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean AS has_autovacuum
        FROM (
            SELECT l.connections, l.connections - (
                       -- Of sessions of other roles not every role sees the kind.
                       SELECT count(*) FROM pg_stat_activity a
                       WHERE a.usesysid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
                         AND a.usesysid = coalesce(l.role, a.usesysid) AND a.datid = coalesce(l.database, a.datid)
                   ) AS connections_free
            FROM (
                SELECT NULL::oid AS role, NULL::oid AS database,
                       current_setting('max_connections')::bigint
                       - current_setting('superuser_reserved_connections')::bigint AS connections
                UNION ALL SELECT oid, NULL, rolconnlimit FROM pg_roles WHERE rolname = current_user
                UNION ALL SELECT NULL, oid, datconnlimit FROM pg_database WHERE datname = current_database()
            ) l
            -- -1 is no limit, and superusers have those of the server alone.
            WHERE l.role IS NULL AND l.database IS NULL
               OR l.connections >= 0 AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            ORDER BY connections_free LIMIT 1
        ) limits
        """
    )
    return Server(**found.to_dicts()[0])


def applied_migrations(transaction: Transaction) -> dict[int, str]:
    """Return the SHA-256 of each applied migration by its number; empty in a database without any."""
    if transaction.query("SELECT to_regclass('ema_assets.migration') IS NULL AS is_new").item():
        return {}
    found = transaction.query("SELECT number, sha256 FROM ema_assets.migration ORDER BY number")
    return dict(found.iter_rows())


def dagster_revision(transaction: Transaction) -> str | None:
    """Up to which of Dagster's migrations its tables are; None where there are none, or they may not be read."""
    if not may_read(transaction, "dagster.alembic_version"):
        return None
    found = transaction.query("SELECT version_num FROM dagster.alembic_version")["version_num"]
    return str(found[0]) if len(found) else None


def stopped_automation(transaction: Transaction) -> list[str] | None:
    """Return the names of stopped schedules and sensors, sorted; None if Dagster's table is missing or unreadable."""
    if not may_read(transaction, "dagster.instigators"):
        return None
    found = transaction.query(
        """
        SELECT DISTINCT instigator_body::json -> 'origin' ->> 'job_name' AS name
        FROM dagster.instigators WHERE status = 'STOPPED' ORDER BY 1
        """
    )
    return [str(name) for name in found["name"].drop_nulls()]


def newest_tick_at(transaction: Transaction) -> datetime | None:
    """Return the latest time among the last ticks of schedules and sensors (UTC); None if there is none to read."""
    if not may_read(transaction, "dagster.job_ticks"):
        return None
    # The table has no index by time alone. These are the ticks of about an hour.
    found = transaction.query(
        """
        SELECT max(timestamp) AT TIME ZONE 'UTC' AS tick_at
        FROM (SELECT timestamp FROM dagster.job_ticks ORDER BY id DESC LIMIT 1000) newest
        """
    )
    tick_at = found.item()
    return tick_at if isinstance(tick_at, datetime) else None


def ended_runs(transaction: Transaction, since: datetime) -> pl.DataFrame | None:
    """Return the runs of schedules and sensors that succeeded or failed after `since`.

    Columns: timeframe, lane, at, is_crash, run_id. A run that failed crashed, unless it names a series that has failed
    by itself. None if Dagster's tables are missing or may not be read.
    """
    if not (may_read(transaction, "dagster.runs") and may_read(transaction, "dagster.run_tags")):
        return None
    return transaction.query(
        """
        SELECT t.timeframe, t.lane, to_timestamp(r.end_time) AS at,
               r.status = 'FAILURE' AND t.failed IS NULL AS is_crash, r.run_id
        FROM dagster.runs r
        CROSS JOIN LATERAL (
            SELECT max(value) FILTER (WHERE key = 'ema_assets/timeframe') AS timeframe,
                   max(value) FILTER (WHERE key = 'ema_assets/lane') AS lane,
                   max(value) FILTER (WHERE key = 'failed') AS failed,
                   max(value) FILTER (WHERE key = 'dagster/defer_asset_events') AS deferred
            FROM dagster.run_tags WHERE run_id = r.run_id
        ) t
        WHERE r.status IN ('SUCCESS', 'FAILURE') AND to_timestamp(r.end_time) >= $1::timestamptz
          AND t.deferred = 'true' AND t.timeframe IS NOT NULL AND t.lane IS NOT NULL
        """,
        since,
    )


def daemon_heard_at(transaction: Transaction) -> datetime | None:
    """Return the last heartbeat of a Dagster daemon (UTC); None if there is none or it may not be read."""
    if not may_read(transaction, "dagster.daemon_heartbeats"):
        return None
    found = transaction.query("SELECT max(timestamp) AT TIME ZONE 'UTC' AS heard_at FROM dagster.daemon_heartbeats")
    heard_at = found.item()
    return heard_at if isinstance(heard_at, datetime) else None


def daemon_id(transaction: Transaction) -> str | None:
    """Return the identifier of the Dagster daemon that reported last; None if there is none or it may not be read.

    Each start of a daemon has its own. Daemons of the same database overwrite each other's, every 30 seconds.
    """
    if not may_read(transaction, "dagster.daemon_heartbeats"):
        return None
    # One daemon process is several of Dagster's daemons, which share the identifier.
    found = transaction.query("SELECT daemon_id FROM dagster.daemon_heartbeats ORDER BY timestamp DESC LIMIT 1")
    return str(found.item()) if found.height else None


def may_read(transaction: Transaction, table: str) -> bool:
    """Return whether Dagster's `table` exists and the role may read it."""
    found = transaction.query(
        """
        SELECT coalesce(has_schema_privilege(to_regnamespace('dagster')::oid, 'USAGE')
                        AND has_table_privilege(to_regclass($1)::oid, 'SELECT'), false) AS may_read
        """,
        table,
    )
    return bool(found.item())
