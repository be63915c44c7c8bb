"""Trading sessions stored in the database, so that a run need not import a calendar library. SQL only."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time

import polars as pl

from ema_assets.model.special_days import SpecialDays
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction

_COLUMNS = "calendar, session, open, break_start, break_end, close, regular_open, regular_close"


def replace(transaction: Transaction, calendar: str, sessions: pl.DataFrame, start: date, end: date) -> list[date]:
    """Replace the stored sessions of `calendar` from `start` to `end`, both included, by `sessions` (SESSION_SCHEMA).

    Returns the days that were added, changed or deleted, unsorted.
    """
    values = ("open", "break_start", "break_end", "close", "regular_open", "regular_close")
    with transaction.staged(sessions) as staged:
        gone = transaction.query(
            f"""
            WITH gone AS (
                DELETE FROM market.session t
                WHERE calendar = $1 AND session BETWEEN $2 AND $3
                      AND NOT EXISTS (SELECT FROM pg_temp.{staged} s WHERE s.session = t.session)
                RETURNING session
            ) SELECT session FROM gone
            """,
            calendar,
            start,
            end,
        )
        written = transaction.query(
            f"""
            WITH written AS (
                INSERT INTO market.session AS t ({_COLUMNS})
                SELECT {_COLUMNS} FROM pg_temp.{staged} ORDER BY 1, 2
                ON CONFLICT (calendar, session) DO UPDATE
                SET {", ".join(f"{name} = excluded.{name}" for name in values)}
                WHERE ({", ".join(f"t.{name}" for name in values)})
                      IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in values)})
                RETURNING session
            ) SELECT session FROM written
            """
        )
    return [*gone["session"], *written["session"]]


def sync_special_days(transaction: Transaction, special: Mapping[str, SpecialDays]) -> None:
    """Replace the special days of all calendars by `special`."""
    rows = [
        *(
            (calendar, day, True, *(hours or (None, None)))
            for calendar, days in special.items()
            for day, hours in days.extra.items()
        ),
        *((calendar, day, False, None, None) for calendar, days in special.items() for day in days.closed),
    ]
    columns = [list(column) for column in zip(*sorted(rows, key=lambda row: row[:2]), strict=True)] or [[]] * 5
    transaction.execute(
        """
        WITH wanted AS (
            SELECT calendar, day, is_session, opens, closes
            FROM unnest($1::text[], $2::date[], $3::boolean[], $4::text[]::time[], $5::text[]::time[])
                 AS w(calendar, day, is_session, opens, closes)
        ), gone AS (
            DELETE FROM market.special_day d
            WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.calendar = d.calendar AND w.day = d.day)
        )
        INSERT INTO market.special_day AS d (calendar, day, is_session, opens, closes)
        SELECT calendar, day, is_session, opens, closes FROM wanted
        ON CONFLICT (calendar, day) DO UPDATE
        SET is_session = excluded.is_session, opens = excluded.opens, closes = excluded.closes
        WHERE (d.is_session, d.opens, d.closes) IS DISTINCT FROM (excluded.is_session, excluded.opens, excluded.closes)
        """,
        *columns[:3],
        *([None if hour is None else hour.isoformat() for hour in column] for column in columns[3:]),
    )


def special_days(transaction: Transaction, calendar: str) -> SpecialDays:
    """Return the special days of `calendar`."""
    rows = transaction.query(
        """
        SELECT day, is_session, opens::text AS opens, closes::text AS closes FROM market.special_day
        WHERE calendar = $1 ORDER BY day
        """,
        calendar,
    ).rows()
    return SpecialDays(
        {
            day: None if opens is None else (time.fromisoformat(opens), time.fromisoformat(closes))
            for day, is_session, opens, closes in rows
            if is_session
        },
        frozenset(day for day, is_session, _, _ in rows if not is_session),
    )


def stored(transaction: Transaction, calendar: str) -> tuple[date | None, date | None, str | None]:
    """Return first and last stored session of `calendar`, and what they were made from; each None if there is none."""
    low, high, made_from = transaction.query(
        """
        SELECT min(session), max(session), (SELECT fingerprint FROM market.calendar WHERE calendar = $1)
        FROM market.session WHERE calendar = $1
        """,
        calendar,
    ).row(0)
    return low, high, made_from


def remember(transaction: Transaction, calendar: str, made_from: str, known_through: date | None) -> None:
    """Write what the stored sessions of `calendar` were made from, and up to which day its holidays are known."""
    transaction.execute(
        """
        INSERT INTO market.calendar (calendar, fingerprint, known_through) VALUES ($1, $2, nullif($3, '')::date)
        ON CONFLICT (calendar) DO UPDATE
        SET fingerprint = excluded.fingerprint, known_through = excluded.known_through
        """,
        calendar,
        made_from,
        "" if known_through is None else known_through.isoformat(),
    )


def between(transaction: Transaction, calendars: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
    """Return stored sessions of `calendars` from two days before `start` to two days after `end` (UTC); sorted.

    One more session on each side is added: a day that is missing in a calendar, also in a week of holidays, has the
    hours of the session before it, and is known to be missing by the one after it.
    """
    return transaction.query(
        f"""
        SELECT {_COLUMNS} FROM market.session s
        JOIN (
            SELECT calendar,
                   (SELECT max(b.session) FROM market.session b WHERE b.calendar = c.calendar
                    AND b.session < ($2::timestamptz - interval '2 days')::date) AS before,
                   (SELECT min(a.session) FROM market.session a WHERE a.calendar = c.calendar
                    AND a.session > ($3::timestamptz + interval '2 days')::date) AS after
            FROM (SELECT DISTINCT unnest($1::text[]) AS calendar) c
        ) around USING (calendar)
        WHERE session BETWEEN coalesce(before, '-infinity') AND coalesce(after, 'infinity')
        ORDER BY calendar, session
        """,
        list(calendars),
        start,
        end,
    )


def in_use(transaction: Transaction, start: datetime, end: datetime, fetched: Timeframe | None = None) -> pl.DataFrame:
    """Return the stored sessions of every calendar that an active instrument trades on; sorted as by `between`.

    They begin two days before `start` and end two days after `end` (UTC). With `fetched`, only those of instruments
    that have a provider and bars of this timeframe.
    """
    return transaction.query(
        f"""
        SELECT {_COLUMNS} FROM market.session
        WHERE calendar IN (SELECT DISTINCT calendar FROM market.instrument
                           WHERE is_active AND ($3::text IS NULL OR (is_fetched AND $3 = ANY (timeframes))))
          AND session BETWEEN ($1::timestamptz - interval '2 days')::date
                          AND ($2::timestamptz + interval '2 days')::date
        ORDER BY calendar, session
        """,
        start,
        end,
        None if fetched is None else fetched.key,
    )


def calendars_of(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """Return the calendar of each of `symbols` that is known: symbol, calendar."""
    return transaction.query(
        "SELECT symbol, calendar FROM market.instrument WHERE symbol = ANY ($1::text[])", list(symbols)
    )


def markets(transaction: Transaction) -> pl.DataFrame:
    """Return the markets from which active instruments are fetched, and the timeframes that have bars there.

    Columns: calendar, provider (null for the default one), delay_seconds, timeframe; sorted.
    """
    return transaction.query(
        """
        SELECT DISTINCT m.calendar, m.provider, m.delay_seconds::bigint AS delay_seconds, t.timeframe
        FROM (SELECT DISTINCT calendar, provider, delay_seconds, timeframes
              FROM market.instrument WHERE is_active AND is_fetched) m
        CROSS JOIN unnest(m.timeframes) AS t(timeframe)
        ORDER BY 1, 2, 3, 4
        """
    )


def ending_calendars(transaction: Transaction, until: datetime) -> pl.DataFrame:
    """Return calendars in use whose sessions or holidays end before `until`: calendar, known_through; sorted."""
    return transaction.query(
        """
        SELECT calendar, least(max(s.session), min(c.known_through)) AS known_through
        FROM (SELECT DISTINCT calendar FROM market.instrument WHERE is_active AND is_fetched) i
        LEFT JOIN market.session s USING (calendar)
        LEFT JOIN market.calendar c USING (calendar)
        GROUP BY 1
        HAVING coalesce(least(max(s.session), min(c.known_through)) < $1::timestamptz::date, true)
        ORDER BY 1
        """,
        until,
    )
