"""What the database or its driver refused, in one sentence. No SQL."""

import adbc_driver_manager
import polars as pl
import psycopg2

from ema_assets.store.database import first_line
from ema_assets.store.roles import READER

# SQLSTATE insufficient_privilege.
_MAY_NOT = "42501"
_ADVICE = (
    f"the user of EMA_DATABASE_URL may only read, or not even that: what writes needs the owner of the database, and "
    f"what reads a member of {READER}"
)


def refusal(error: Exception) -> str | None:
    """What `error` of the database or its driver means to the user; None for one of another origin."""
    if not isinstance(error, adbc_driver_manager.Error | psycopg2.Error | pl.exceptions.ComputeError):
        return None
    text = str(error)
    # Rows stream in while polars reads them: an error of the server then reaches us as one of polars.
    if isinstance(error, pl.exceptions.ComputeError) and "[libpq]" not in text:
        return None
    sentence = f"the database or its driver refused: {first_line(error)}"
    return f"{sentence}; {_ADVICE}" if is_about_rights(error) else sentence


def is_about_rights(error: Exception) -> bool:
    """Whether the user of the database lacks a right."""
    # psycopg2 calls it `pgcode`, ADBC `sqlstate`, and polars passes only the text on.
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state:
        return str(state) == _MAY_NOT
    return any(words in str(error) for words in ("permission denied for ", "must be owner of "))
