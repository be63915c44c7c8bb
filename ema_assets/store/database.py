"""The connection to Postgres: transactions, bulk COPY in, Arrow out. SQL on tables belongs in its sibling modules."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Self

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import polars as pl

from ema_assets.model.errors import StoreUnavailable
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.urls import masked_url, named_url, watched_url, without_quotes
from ema_assets.store.interrupts import completely, interruptibly
from ema_assets.store.planner_settings import PLANNED_BY

_ANALYZE_ABOVE_ROWS = 20_000
# A table is analyzed when the planner knows of less than this multiple of the rows that were copied into it.
_ANALYZE_BELOW = 10
# A temporary table costs three statements and dozens of rows in PostgreSQL's catalogs: 2 CPU ms in all, however few
# rows it has. A thousand rows take longer to bind.
BOUND_UP_TO_ROWS = 500
# PostgreSQL's types for the columns of rows that are bound.
_SQL_TYPES: Mapping[pl.DataType, str] = {
    pl.String(): "text",
    pl.Float64(): "float8",
    pl.Int64(): "int8",
    pl.Int16(): "int2",
    pl.Boolean(): "boolean",
    UTC_TIME: "timestamptz",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# The server ends the session of a host that the network has cut off, with its locks, after half a minute; by default it
# waits for two hours. Days are UTC days, whatever the server's zone. Planner settings that somebody has changed stay
# as they are.
_SETTINGS = f"""
    SELECT set_config(name, value, false) FROM (VALUES
        ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
        ('tcp_user_timeout', '30000'), ('timezone', 'UTC')) AS limits(name, value)
    UNION ALL
    SELECT set_config(name, value, false)
    FROM (VALUES {", ".join(f"('{name}', '{value}')" for name, value in PLANNED_BY.items())}) AS costs(name, value)
    JOIN pg_settings USING (name) WHERE source = 'default'
"""
# How libpq begins what the system says of its socket, such as a time-out after a network was cut off.
_OF_THE_SOCKET = ("could not receive data from server", "could not send data to server", "SSL SYSCALL error")
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Given:
    """Rows that a statement reads: bound to it when they are few, in a temporary table when they are many.

    A statement with four parameters of its own reads them as `FROM {given.after(4)}`, which is called `g` there, and
    gets `*given.values` behind its own parameters.
    """

    values: tuple[pl.Series, ...]
    table: str | None = None

    def after(self, parameters: int) -> str:
        """Return the FROM item for a statement that has this number of `parameters` of its own."""
        if self.table is not None:
            return f"pg_temp.{self.table} AS g"
        columns = enumerate(self.values, start=parameters + 1)
        arrays = ", ".join(f"${number}::{_SQL_TYPES[column.dtype]}[]" for number, column in columns)
        return f"unnest({arrays}) AS g({', '.join(identifier(column.name) for column in self.values)})"


def is_bound(rows: pl.DataFrame) -> bool:
    """Return whether `rows` are few enough to be bound to a statement."""
    return rows.height <= BOUND_UP_TO_ROWS


class Transaction:
    """Statements that succeed or fail together. Made by `Database.transaction`."""

    def __init__(self, database: "Database", cursor: Any) -> None:
        self._database = database
        self._cursor = cursor
        self._staged = 0

    def query(self, sql: str, *parameters: Any) -> pl.DataFrame:
        """Run one statement with `$1`, `$2` … bound and return its rows. A list binds as an array."""
        self._database.statements += 1
        return _rows(self._cursor, sql, _bound(parameters) if parameters else None)

    def read_one_moment(self) -> None:
        """Have all statements see the database as it was at the first one, and write nothing."""
        self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def execute(self, sql: str, *parameters: Any) -> None:
        """Run one statement with `$1`, `$2` … bound, for its effect."""
        self._database.statements += 1
        # `executemany` returns nothing that would have to be fetched and converted into a frame.
        bound = _bound(parameters) if parameters else None
        interruptibly(lambda: self._cursor.executemany(sql, bound), self._cursor.adbc_cancel)

    @contextmanager
    def staged(self, rows: pl.DataFrame) -> Iterator[str]:
        """COPY `rows` into a temporary table, yield its name, and drop it."""
        self._staged += 1
        name = f"staged_{self._staged}"
        self._database.statements += 2
        interruptibly(
            lambda: self._cursor.adbc_ingest(name, rows, mode="create", temporary=True), self._cursor.adbc_cancel
        )
        if rows.height > _ANALYZE_ABOVE_ROWS:
            # Without statistics the planner takes a new table for a small one and picks nested loops.
            self.execute(f"ANALYZE pg_temp.{name}")
        yield name
        # After an error, the rollback drops the table.
        interruptibly(lambda: self._cursor.execute(f"DROP TABLE pg_temp.{name}"), self._cursor.adbc_cancel)

    def append(self, table: str, rows: pl.DataFrame) -> None:
        """COPY `rows` straight into `table`, named with its schema; the types of the columns must be equal.

        A row whose key exists already is an error.
        """
        schema, name = map(identifier, table.split("."))
        self._database.statements += 1
        interruptibly(
            lambda: self._cursor.adbc_ingest(name, rows, mode="append", db_schema_name=schema), self._cursor.adbc_cancel
        )
        # Otherwise the planner would take the table for an empty one until autovacuum comes a minute later. Not after
        # the few rows of a tick: for millions of stored ones it takes half a second, and other runs wait for its lock.
        known = self.query("SELECT reltuples::int8 AS rows FROM pg_class WHERE oid = to_regclass($1)", table).item()
        if known < _ANALYZE_BELOW * rows.height:
            self.execute(f"ANALYZE {schema}.{name}")

    @contextmanager
    def given(self, rows: pl.DataFrame) -> Iterator[Given]:
        """Yield `rows` in a form that statements can read; the columns must have the types of tables."""
        if is_bound(rows):
            yield Given(tuple(rows.get_columns()))
            return
        with self.staged(rows) as name:
            yield Given((), name)


class Database:
    """One connection to the database at `url` (libpq form), opened at first use and reopened when it was lost.

    With `name`, each of its sessions carries that name, also after the connection was lost: see worker_sessions.

    Threads take turns, one transaction each. `statements` counts the statements sent, for benchmarks and run metadata.
    """

    def __init__(self, url: str, name: str | None = None) -> None:
        self.url = url
        self.name = name
        self._connection: Any = None
        self._turn = threading.RLock()
        self.statements = 0

    def __repr__(self) -> str:
        return f"Database({masked_url(self.url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a transaction, committed at the end of the block and rolled back when it raises.

        Raises:
            StoreUnavailable: when the database cannot be reached.
        """
        with self._turn:
            connection = self._open()
            try:
                cursor = completely(connection.cursor)
                try:
                    yield Transaction(self, cursor)
                finally:
                    completely(cursor.close)
                completely(connection.commit)
            except BaseException as error:
                self._roll_back(connection)
                # Rows stream in while polars reads them, so a server error may arrive as a polars error.
                if isinstance(error, (adbc_driver_manager.Error, pl.exceptions.ComputeError)) and _is_lost(error):
                    self.close()
                    raise StoreUnavailable(
                        f"the connection to {masked_url(self.url)} was lost: {first_line(error)}"
                    ) from error
                raise

    def close(self) -> None:
        """Close the connection; the next transaction opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _roll_back(self, connection: Any) -> None:
        # Cleared first, so that nobody continues half-done work if another interrupt comes during the rollback.
        self._connection = None
        try:
            completely(connection.rollback)
        except Exception:  # noqa: BLE001 - its session ends, and with it what it has done
            with suppress(Exception):
                connection.close()
        else:
            self._connection = connection

    def _open(self) -> Any:
        if self._connection is None:
            try:
                url = watched_url(named_url(self.url, self.name))
                connection, knows_types = _connected(url)
                if not knows_types:
                    connection.close()
                    # Only if types are unknown, which quote_all_identifiers causes: a pooler may refuse options.
                    connection, _ = _connected(without_quotes(url))
                self._connection = connection
            except adbc_driver_manager.Error as error:
                raise StoreUnavailable(
                    f"cannot connect to {masked_url(self.url)}: {first_line(error)}; "
                    "is the server running and EMA_DATABASE_URL right?"
                ) from error
        return self._connection


def _connected(url: str) -> tuple[Any, bool]:
    """Return a connection to the database at `url`, and whether its driver knows the types of columns."""
    connection = adbc.connect(url, conn_kwargs={"adbc.connection.autocommit": "false"})
    with connection.cursor() as cursor:
        found = _rows(cursor, _SETTINGS)
    connection.commit()
    return connection, found.dtypes == [pl.String]


def identifier(name: str) -> str:
    """Return `name` if it is safe in SQL text: for the few places where a table's name is computed.

    Raises:
        ValueError: when it is not a lower-case SQL identifier.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"`name` must be a lower-case SQL identifier, received {name!r}")
    return name


def _rows(cursor: Any, sql: str, bound: pl.DataFrame | None = None) -> pl.DataFrame:
    def read() -> pl.DataFrame:
        cursor.execute(sql, bound)
        return pl.DataFrame(cursor.fetch_arrow())

    return interruptibly(read, cursor.adbc_cancel)


def _bound(parameters: tuple[Any, ...]) -> pl.DataFrame:
    """Return one row with all parameters. A bare None has no type that ADBC could send, so it is sent as text."""
    columns = []
    for position, value in enumerate(parameters):
        name = f"p{position}"
        if isinstance(value, pl.Series):
            columns.append(pl.Series(name, [value]))
        elif isinstance(value, (list, tuple)):
            columns.append(_array(name, list(value)))
        elif isinstance(value, float):
            # Not cached by `_one`: 0.0 and -0.0 are equal.
            columns.append(pl.Series(name, [value]))
        else:
            columns.append(_one(name, value))
    return pl.DataFrame(columns)


@lru_cache(maxsize=256, typed=True)
def _one(name: str, value: Any) -> pl.Series:
    """Return a column of one value. Cached: names of assets and timeframes recur in every statement, as does `now`."""
    if value is None:
        return pl.Series(name, [None], dtype=pl.String)
    if not isinstance(value, datetime):
        return pl.Series(name, [value])
    if value.tzinfo is None:
        return pl.Series(name, [value], dtype=UTC_TIME)
    # Building the column from an integer is ten times as fast as from a time with a zone.
    return pl.Series(name, [(value - _EPOCH) // _MICROSECOND], dtype=pl.Int64).cast(UTC_TIME)


def _array(name: str, values: list[Any]) -> pl.Series:
    inner = pl.Series(values)
    if inner.dtype == pl.Null:
        inner = inner.cast(pl.String)
    return pl.Series(name, [inner])


def _is_lost(error: adbc_driver_manager.Error | pl.exceptions.ComputeError) -> bool:
    # Class 08 is a broken connection, 57P a server that shuts down; without a state, libpq itself lost the socket.
    state = getattr(error, "sqlstate", None) or ""
    if state:
        return state.startswith(("08", "57P"))
    text = str(error)
    return any(each in text for each in _OF_THE_SOCKET) or (
        "connection" in text
        and ("closed" in text or "terminat" in text or "no connection" in text or "refused" in text)
    )


def first_line(error: Exception) -> str:
    """Return the message of a driver's error, without its prefixes and without the statement that follows."""
    text = str(error).strip().removeprefix("IO: [libpq] Failed to connect: ")
    for mark in ("FATAL:", "ERROR:", "error:"):
        if mark in text:
            text = text.split(mark, 1)[1]
            break
    return text.splitlines()[0].strip()
