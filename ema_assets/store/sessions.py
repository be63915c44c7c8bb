"""Trading sessions kept in the database, so that a run need not import a calendar library. SQL only."""

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from ema_assets.store.database import Transaction

_COLUMNS = "calendar, session, open, break_start, break_end, close, regular_open, regular_close"


def covered(transaction: Transaction) -> dict[str, tuple[date, date]]:
    """First and last stored session of each calendar."""
    found = transaction.query(
        "SELECT calendar, min(session) AS low, max(session) AS high FROM market.session GROUP BY 1"
    )
    return {calendar: (low, high) for calendar, low, high in found.iter_rows()}


def save(transaction: Transaction, sessions: pl.DataFrame) -> None:
    """Store `sessions` (SESSION_SCHEMA), replacing those that changed."""
    with transaction.staged(sessions) as staged:
        transaction.execute(
            f"""
            INSERT INTO market.session AS t ({_COLUMNS})
            SELECT {_COLUMNS} FROM pg_temp.{staged} ORDER BY 1, 2
            ON CONFLICT (calendar, session) DO UPDATE
            SET open = excluded.open, break_start = excluded.break_start, break_end = excluded.break_end,
                close = excluded.close, regular_open = excluded.regular_open, regular_close = excluded.regular_close
            WHERE (t.open, t.break_start, t.break_end, t.close, t.regular_open, t.regular_close)
                  IS DISTINCT FROM (excluded.open, excluded.break_start, excluded.break_end, excluded.close,
                                    excluded.regular_open, excluded.regular_close)
            """
        )


def between(transaction: Transaction, calendars: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
    """Stored sessions of `calendars` that touch the time from `start` to `end` (UTC)."""
    return transaction.query(
        f"""
        SELECT {_COLUMNS} FROM market.session
        WHERE calendar = ANY ($1::text[]) AND session BETWEEN ($2::timestamptz - interval '2 days')::date
                                                          AND ($3::timestamptz + interval '2 days')::date
        ORDER BY calendar, session
        """,
        list(calendars),
        start,
        end,
    )


def in_use(transaction: Transaction, start: datetime, end: datetime) -> pl.DataFrame:
    """Stored sessions of every calendar that an active instrument trades on, as `between`."""
    return transaction.query(
        f"""
        SELECT {_COLUMNS} FROM market.session
        WHERE calendar IN (SELECT DISTINCT calendar FROM market.instrument WHERE is_active)
          AND session BETWEEN ($1::timestamptz - interval '2 days')::date
                          AND ($2::timestamptz + interval '2 days')::date
        ORDER BY calendar, session
        """,
        start,
        end,
    )


def calendars_of(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """The calendar of each of `symbols` that is known: symbol, calendar."""
    return transaction.query(
        "SELECT symbol, calendar FROM market.instrument WHERE symbol = ANY ($1::text[])", list(symbols)
    )


def markets(transaction: Transaction) -> pl.DataFrame:
    """Where active instruments are asked for: calendar, provider (null for the default one), delay_seconds; sorted."""
    return transaction.query(
        """
        SELECT DISTINCT calendar, provider, delay_seconds::bigint AS delay_seconds
        FROM market.instrument WHERE is_active AND is_fetched ORDER BY 1, 2, 3
        """
    )


def ending_calendars(transaction: Transaction, until: datetime) -> pl.DataFrame:
    """Calendars in use that have no session from `until` on: calendar, last_session."""
    return transaction.query(
        """
        SELECT c.calendar, max(s.session) AS last_session
        FROM (SELECT DISTINCT calendar FROM market.instrument WHERE is_active AND is_fetched) c
        LEFT JOIN market.session s USING (calendar)
        GROUP BY 1 HAVING coalesce(max(s.open) < $1, true) ORDER BY 1
        """,
        until,
    )
