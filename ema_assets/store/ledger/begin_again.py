"""Series that begin again: on another calendar, in changed sessions, or no longer from files. SQL only."""

from collections.abc import Sequence
from datetime import datetime

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import FETCHED
from ema_assets.store import file_spans
from ema_assets.store.database import Transaction
from ema_assets.store.ledger.off_grid import delete_off_grid, move_to_opens
from ema_assets.store.ledger.row import BEGINNING
from ema_assets.store.ledger.timeframe_rows import known_timeframes


def start_on_calendar(transaction: Transaction, symbols: Sequence[str]) -> None:
    """Delete the bars of `symbols` that are not on their calendar, and have the rest fetched and computed again.

    All rolled-up bars are deleted because they are made again; for symbols from files, `roll_up_files` makes those of
    fetched timeframes. Bars of files cannot be made again: those within the new sessions stay. Sessions must be stored
    before.
    """
    known = known_timeframes(transaction)
    for timeframe in known:
        if timeframe.is_fetched:
            # Bars older than all stored sessions stay: nothing is known that speaks against them.
            is_on = "s.regular_open = o.ts"
            if not timeframe.is_session:
                is_on = """o.ts >= s.open AND o.ts < s.close
                           AND NOT coalesce(o.ts >= s.break_start AND o.ts < s.break_end, false)"""
            transaction.execute(
                f"""
                DELETE FROM market.ohlc_{timeframe.sql_name} o USING market.instrument i
                WHERE i.symbol = o.symbol AND o.symbol = ANY ($1::text[])
                  AND o.ts >= (SELECT min(s.open) FROM market.session s WHERE s.calendar = i.calendar)
                  AND ((o.missing_bars IS NOT NULL AND NOT i.is_fetched)
                       OR NOT EXISTS (SELECT FROM market.session s WHERE s.calendar = i.calendar AND {is_on}))
                """,
                list(symbols),
            )
        else:
            transaction.execute(
                f"""
                DELETE FROM market.ohlc_{timeframe.sql_name}
                WHERE symbol = ANY ($1::text[]) AND missing_bars IS NOT NULL
                """,
                list(symbols),
            )
            if timeframe.is_intraday:
                file_spans.keep_within_sessions(transaction, timeframe, symbols)
    transaction.execute("DELETE FROM market.bar_gap WHERE symbol = ANY ($1::text[])", list(symbols))
    transaction.execute(
        """
        UPDATE market.series_state s
        SET checked_through = CASE WHEN i.is_fetched AND s.timeframe = ANY ($3::text[]) THEN NULL
                                   ELSE s.checked_through END,
            dirty_from = CASE WHEN s.asset = $2 AND s.timeframe = ANY ($3::text[]) THEN NULL ELSE $4::timestamptz END,
            dirty_end = CASE WHEN s.asset = $2 AND s.timeframe <> ALL ($3::text[]) THEN $4::timestamptz END,
            first_ts = CASE WHEN s.asset = $2 THEN b.first_ts ELSE s.first_ts END,
            last_ts = CASE WHEN s.asset = $2 THEN b.last_ts ELSE s.last_ts END,
            begun_again = s.begun_again + 1,
            failures = 0, next_attempt_at = NULL, last_error = NULL, updated_at = clock_timestamp()
        FROM market.instrument i
        CROSS JOIN unnest($5::text[]) AS t(timeframe)
        LEFT JOIN LATERAL (
            SELECT min(o.ts) AS first_ts, max(o.ts) AS last_ts FROM market.ohlc o
            WHERE o.symbol = i.symbol AND o.timeframe = t.timeframe
        ) b ON true
        WHERE i.symbol = s.symbol AND s.timeframe = t.timeframe AND s.symbol = ANY ($1::text[])
        """,
        list(symbols),
        OHLC,
        [timeframe.key for timeframe in FETCHED],
        BEGINNING,
        [timeframe.key for timeframe in known],
    )


def go_back(transaction: Transaction, calendar: str, since: datetime) -> None:
    """Have the series of `calendar`, whose sessions have changed, fetched and computed again from `since` (UTC) on.

    `since` is the open of a session, so that every bar that is rolled up again is complete. Rolled-up bars that do not
    fit the sessions are deleted, and bars of whole sessions are moved to the opens; sessions must be stored before.
    Weekly and longer bars may now begin on another day, so these series are computed from the beginning.

    Rolled-up bars are made again at once, as far as their source is known to be complete: deleted ones lie before
    `since`, too, and with other sessions it may never be complete up to the moment for which they waited.
    """
    longer: list[str] = []
    for timeframe in known_timeframes(transaction):
        if timeframe.period is not None:
            longer.append(timeframe.key)
            transaction.execute(
                f"""
                DELETE FROM market.ohlc_{timeframe.sql_name} o USING market.instrument i
                WHERE i.symbol = o.symbol AND i.calendar = $1 AND o.missing_bars IS NOT NULL
                      AND o.ts > $2 - make_interval(mins => {timeframe.minutes})
                """,
                calendar,
                since,
            )
        elif timeframe.is_session:
            move_to_opens(transaction, timeframe, calendar, since)
        elif not timeframe.is_fetched:
            delete_off_grid(transaction, timeframe, calendar, since)
    transaction.execute(
        """
        UPDATE market.series_state s
        SET checked_through = CASE WHEN i.is_fetched AND s.checked_through > $2 THEN $2 ELSE s.checked_through END,
            dirty_from = CASE WHEN s.asset = $3 AND s.timeframe = ANY ($4::text[]) THEN s.dirty_from
                              WHEN s.timeframe = ANY ($5::text[]) THEN $6::timestamptz
                              ELSE least(s.dirty_from, $2) END,
            dirty_end = CASE WHEN s.asset = $3 AND s.timeframe <> ALL ($4::text[]) THEN $6::timestamptz END,
            begun_again = s.begun_again + 1,
            updated_at = clock_timestamp()
        FROM market.instrument i
        WHERE i.symbol = s.symbol AND i.calendar = $1
          AND (s.first_ts IS NOT NULL OR s.asset = $3 AND s.timeframe = ANY ($4::text[]) OR
               -- Nothing was rolled up so far, if all stored bars are of a day that is a session only now.
               s.asset = $3 AND s.timeframe <> ALL ($4::text[]) AND EXISTS (
                   SELECT FROM market.series_state f
                   WHERE f.asset = $3 AND f.symbol = s.symbol AND f.first_ts IS NOT NULL))
        """,
        calendar,
        since,
        OHLC,
        [timeframe.key for timeframe in FETCHED],
        longer,
        BEGINNING,
    )


def look_again(transaction: Transaction, calendars: Sequence[str]) -> None:
    """Have the open rolled-up bars of `calendars`, whose coming sessions have changed, looked at again at once.

    A week may have closed already when its last day is taken out of the calendar.
    """
    transaction.execute(
        """
        UPDATE market.series_state s SET dirty_end = $2
        FROM market.instrument i
        WHERE i.symbol = s.symbol AND i.calendar = ANY ($1::text[]) AND s.asset = $3 AND s.dirty_end > $2
        """,
        list(calendars),
        BEGINNING,
        OHLC,
    )


def ask_for_all(transaction: Transaction, symbols: Sequence[str]) -> None:
    """Have the whole history of `symbols` requested, whose bars came from files until now.

    No provider was asked for bars that the files lack, nor for those of a calendar that was changed in the meantime.
    """
    transaction.execute(
        """
        UPDATE market.series_state
        SET checked_through = NULL, begun_again = begun_again + 1, updated_at = clock_timestamp()
        WHERE asset = $1 AND symbol = ANY ($2::text[]) AND timeframe = ANY ($3::text[])
        """,
        OHLC,
        list(symbols),
        [timeframe.key for timeframe in FETCHED],
    )
