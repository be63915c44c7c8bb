"""What the database or its driver refused, in one sentence. No SQL."""

import adbc_driver_manager
import polars as pl
import psycopg2

from ema_assets.store.database import first_line

# SQLSTATE insufficient_privilege.
_MAY_NOT = "42501"


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
    return state == _MAY_NOT if state else "permission denied for " in str(error)


_ADVICE = (
    "the user of EMA_DATABASE_URL may read at most: for whatever writes, set it to the owner of the database, and for "
    "what only reads have the owner run `ema-assets migrate` and make this user a member of `ema_reader`"
)
