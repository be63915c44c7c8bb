"""Errors of the database or its driver, explained to the user in one sentence. No SQL."""

import re

import adbc_driver_manager
import polars as pl
import psycopg2

from ema_assets.model.asset_names import ENDS_OF_TABLES
from ema_assets.store.database import first_line
from ema_assets.store.roles import READER

# SQLSTATE insufficient_privilege and read_only_sql_transaction.
_MAY_NOT, _READ_ONLY = "42501", "25006"
_NO_TABLE = re.compile(rf'relation "market\.\w+{ENDS_OF_TABLES}" does not exist')
_ADVICE = (
    f"the user of EMA_DATABASE_URL may only read, or not even that: what writes needs the owner of the database, and "
    f"what reads a member of {READER}"
)
READ_ONLY_ADVICE = (
    "it is a standby, or default_transaction_read_only is on for the server, the database or the role: what writes "
    "needs a primary that may be written to"
)
_NO_TABLE_ADVICE = (
    "the tables of a new signal, strategy or timeframe are created when the watchlist is synced: within seconds by "
    "`ema-assets up`, or by `ema-assets refresh`"
)


def refusal(error: Exception) -> str | None:
    """Return what an error of the database or its driver means to the user; None for an error of another origin."""
    if not isinstance(error, adbc_driver_manager.Error | psycopg2.Error | pl.exceptions.ComputeError):
        return None
    text = str(error)
    # Rows stream in while polars reads them, so a server error may arrive as a polars error.
    if isinstance(error, pl.exceptions.ComputeError) and "[libpq]" not in text:
        return None
    sentence = f"the database or its driver refused: {first_line(error)}"
    if is_about_rights(error):
        return f"{sentence}; {_ADVICE}"
    if _NO_TABLE.search(text):
        return f"{sentence}; {_NO_TABLE_ADVICE}"
    return f"{sentence}; {READ_ONLY_ADVICE}" if is_about_a_read_only_session(error) else sentence


def is_about_rights(error: Exception) -> bool:
    """Return whether `error` says that the database user lacks a right."""
    return _is(error, _MAY_NOT, "permission denied for ", "must be owner of ")


def is_about_a_read_only_session(error: Exception) -> bool:
    """Return whether `error` says that the server or the session is read-only."""
    return _is(error, _READ_ONLY, " in a read-only transaction", " during recovery")


def _is(error: Exception, state: str, *texts: str) -> bool:
    # psycopg2 calls the state `pgcode`, ADBC `sqlstate`, and polars passes on only the text.
    found = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return str(found) == state if found else any(text in str(error) for text in texts)
