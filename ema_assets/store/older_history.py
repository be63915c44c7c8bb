"""What was requested of the history before the first bars of fetched series; `long_history` has the bars. SQL only."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.store.database import Transaction
from ema_assets.store.ledger.row import DIRTY_SINCE, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS

# Every statement locks rows by timeframe and symbol, as runs do. Two writers that meet rows in different orders would
# deadlock.
_IN_ORDER = "ORDER BY timeframe, symbol FOR NO KEY UPDATE"
# SQL: the rows of the symbols $2 on the timeframe $1, locked.
LOCKED = f"""locked AS MATERIALIZED (
    SELECT symbol FROM market.older_history WHERE timeframe = $1 AND symbol = ANY ($2::text[]) {_IN_ORDER}
)"""


def begin(transaction: Transaction, timeframe: Timeframe, asked: pl.DataFrame, now: datetime, *, is_anew: bool) -> None:
    """Write how far back the series of `asked` (symbol, start) were requested, and that older bars are due at `now`.

    With `is_anew`, the series were loaded again, and their long history must be requested again.
    """
    _ask_from(transaction, timeframe, asked.select("symbol", asked_from="start"))
    transaction.execute(
        """
        INSERT INTO market.older_history AS h (symbol, timeframe, due_at)
        SELECT symbol, $1, $3 FROM unnest($2::text[]) AS a(symbol) ORDER BY symbol
        ON CONFLICT (symbol, timeframe) DO UPDATE
        SET due_at = excluded.due_at, asked_from = CASE WHEN $4 THEN NULL ELSE h.asked_from END
        """,
        timeframe.key,
        asked["symbol"],
        now,
        is_anew,
    )


def changed_depths(transaction: Transaction, wanted: Mapping[str, str]) -> list[str]:
    """Return the timeframes whose `wanted` depth (in words) has changed."""
    known = dict(transaction.query("SELECT timeframe, wanted FROM market.history_depth").iter_rows())
    return [timeframe for timeframe, depth in wanted.items() if known.get(timeframe) != depth]


def sync_depth(transaction: Transaction, wanted: Mapping[str, str], now: datetime) -> None:
    """Make the older bars of all series due at `now` on timeframes whose `wanted` depth (in words) has changed.

    Their fetched bars must be locked: a run that holds a row of older history has locked these first.
    """
    transaction.execute(
        f"""
        WITH changed AS (
            INSERT INTO market.history_depth AS d (timeframe, wanted)
            SELECT timeframe, wanted FROM unnest($1::text[], $2::text[]) AS w(timeframe, wanted)
            ON CONFLICT (timeframe) DO UPDATE SET wanted = excluded.wanted WHERE d.wanted <> excluded.wanted
            RETURNING timeframe
        ), locked AS MATERIALIZED (
            SELECT symbol, timeframe FROM market.older_history WHERE timeframe IN (SELECT timeframe FROM changed)
            {_IN_ORDER}
        )
        UPDATE market.older_history h
        SET due_at = least(h.due_at, $3), failures = 0, note = CASE WHEN h.failures = 0 THEN h.note END
        FROM locked l WHERE h.symbol = l.symbol AND h.timeframe = l.timeframe
        """,
        list(wanted),
        list(wanted.values()),
        now,
    )


def due(
    transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], now: datetime, *, everything: bool = False
) -> pl.DataFrame:
    """Return those of `symbols` whose older bars are due; with `everything`, all that have bars. Sorted by symbol.

    Columns: symbol, calendar, provider (null for the default one), delay_seconds, first_ts, checked_through, asked_from
    (of the series itself), long_from (of its long history, null when that was not requested).
    """
    return transaction.query(
        """
        SELECT s.symbol, i.calendar, i.provider, i.delay_seconds::bigint AS delay_seconds, s.first_ts,
               s.checked_through, s.asked_from, h.asked_from AS long_from
        FROM market.series_state s
        JOIN market.instrument i USING (symbol)
        LEFT JOIN market.older_history h ON h.symbol = s.symbol AND h.timeframe = s.timeframe
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[]) AND s.is_on
          AND i.is_active AND i.is_fetched AND i.silent_since IS NULL AND s.checked_through IS NOT NULL
          AND s.first_ts IS NOT NULL AND (h.due_at <= $4 OR $5)
        ORDER BY s.symbol
        """,
        OHLC,
        timeframe.key,
        list(symbols),
        now,
        everything,
    )


def series_of(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """Return all series of bars of `symbols`: symbol, timeframe; sorted."""
    return transaction.query(
        """
        SELECT symbol, timeframe FROM market.series_state
        WHERE asset = $1 AND symbol = ANY ($2::text[]) AND is_on ORDER BY 1, 2
        """,
        OHLC,
        list(symbols),
    )


def reaches(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """Return how far back the series of `symbols` were requested, or begin with long history if they are rolled up.

    Columns: symbol, timeframe, asked_from; sorted by the first two. Series without a value are left out.
    """
    return transaction.query(
        """
        SELECT symbol, timeframe, asked_from FROM market.series_state
        WHERE asset = $1 AND symbol = ANY ($2::text[]) AND asked_from IS NOT NULL ORDER BY 1, 2
        """,
        OHLC,
        list(symbols),
    )


def settle(
    transaction: Transaction, timeframe: Timeframe, settled: pl.DataFrame, depth: str | None, now: datetime
) -> None:
    """Write that the series in `settled` need no older bars at present, unless a sync has changed their `depth`.

    Columns: symbol; asked_from (how far back the series was requested), long_from (how far back its long history was)
    and note, each null where it stays unchanged. `depth` are the words for how far back they were planned, as
    `sync_depth` takes them; None if no sync can come between.
    """
    if settled.is_empty():
        return
    _ask_from(transaction, timeframe, settled.drop_nulls("asked_from"))
    # Before the depth is read: a sync that is changing it has locked these rows, or will wait for them.
    transaction.execute(f"WITH {LOCKED} SELECT count(*) FROM locked", timeframe.key, settled["symbol"])
    transaction.execute(
        """
        INSERT INTO market.older_history AS h (symbol, timeframe, asked_from, asked_at, note)
        SELECT symbol, $1, long_from, CASE WHEN long_from IS NOT NULL THEN $5::timestamptz END, note
        FROM unnest($2::text[], $3::timestamptz[], $4::text[]) AS t(symbol, long_from, note) ORDER BY symbol
        ON CONFLICT (symbol, timeframe) DO UPDATE
        SET due_at = CASE WHEN (SELECT d.wanted FROM market.history_depth d WHERE d.timeframe = $1) <> $6
                          THEN h.due_at END,
            failures = 0, asked_from = least(h.asked_from, excluded.asked_from),
            asked_at = coalesce(excluded.asked_at, h.asked_at),
            -- What went wrong the last time is over.
            note = coalesce(excluded.note, CASE WHEN h.failures = 0 THEN h.note END)
        """,
        timeframe.key,
        settled["symbol"],
        settled["long_from"],
        settled["note"],
        now,
        depth,
    )


def _ask_from(transaction: Transaction, timeframe: Timeframe, asked: pl.DataFrame) -> None:
    """Write how far back the series of `asked` (symbol, asked_from) were requested.

    In a statement of its own, because a run locks the series before its row of older history.
    """
    transaction.execute(
        f"""
        WITH locked AS MATERIALIZED (
            SELECT symbol FROM market.series_state
            WHERE asset = $4 AND timeframe = $1 AND symbol = ANY ($2::text[]) {_IN_ORDER}
        )
        UPDATE market.series_state s SET asked_from = least(s.asked_from, t.asked_from)
        FROM unnest($2::text[], $3::timestamptz[]) AS t(symbol, asked_from) JOIN locked USING (symbol)
        WHERE s.asset = $4 AND s.timeframe = $1 AND s.symbol = t.symbol
        """,
        timeframe.key,
        asked["symbol"],
        asked["asked_from"],
        OHLC,
    )


def fail(
    transaction: Transaction,
    timeframe: Timeframe,
    errors: Mapping[str, str],
    now: datetime,
    until: datetime | None = None,
) -> None:
    """Write that older bars of the symbols of `errors` could not be fetched, and why; pauses are as in the ledger."""
    if not errors:
        return
    transaction.execute(
        f"""
        WITH {LOCKED}
        UPDATE market.older_history h
        SET failures = h.failures + 1, note = e.message,
            due_at = coalesce($7::timestamptz, $4 + make_interval(secs =>
                least($5::float8 * 2 ^ least(h.failures, 20), $6::float8) * (0.75 + random() / 2)))
        FROM unnest($2::text[], $3::text[]) AS e(symbol, message) JOIN locked USING (symbol)
        WHERE h.timeframe = $1 AND h.symbol = e.symbol
        """,
        timeframe.key,
        list(errors),
        [message[:1000] for message in errors.values()],
        now,
        float(FIRST_PAUSE_SECONDS),
        float(LONGEST_PAUSE_SECONDS),
        until,
    )


def end_pauses(
    transaction: Transaction, symbols: Sequence[str], timeframes: Sequence[Timeframe], now: datetime
) -> None:
    """Make older bars of `symbols` that could not be fetched due at `now`."""
    transaction.execute(
        f"""
        WITH locked AS MATERIALIZED (
            SELECT symbol, timeframe FROM market.older_history
            WHERE failures > 0 AND due_at IS NOT NULL AND symbol = ANY ($1::text[]) AND timeframe = ANY ($2::text[])
            {_IN_ORDER}
        )
        UPDATE market.older_history h SET due_at = least(h.due_at, $3)
        FROM locked l WHERE h.symbol = l.symbol AND h.timeframe = l.timeframe AND h.failures > 0
        """,
        list(symbols),
        [timeframe.key for timeframe in timeframes],
        now,
    )


def ask_again(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], now: datetime) -> None:
    """Have the whole long history of `symbols`, where there is one, requested again."""
    transaction.execute(
        f"""
        WITH {LOCKED}
        UPDATE market.older_history h SET due_at = $3, asked_from = NULL
        FROM locked l WHERE h.timeframe = $1 AND h.symbol = l.symbol AND h.asked_from IS NOT NULL
        """,
        timeframe.key,
        list(symbols),
        now,
    )


def reach_back(transaction: Transaction, reaching: pl.DataFrame) -> None:
    """Have each rolled-up series of `reaching` (symbol, timeframe, from_ts) begin with long history at from_ts.

    A series whose long history begins earlier keeps that beginning. Its bars are rolled up again from there.
    """
    if reaching.is_empty():
        return
    transaction.execute(
        f"""
        WITH reaching AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS r(symbol, timeframe, from_ts)
        ), locked AS MATERIALIZED (
            SELECT symbol, timeframe FROM market.series_state
            WHERE asset = $4 AND (symbol, timeframe) IN (SELECT symbol, timeframe FROM reaching) {_IN_ORDER}
        )
        UPDATE market.series_state s
        SET asked_from = least(s.asked_from, r.from_ts),
            dirty_end = CASE WHEN s.dirty_from < least(s.asked_from, r.from_ts) THEN s.dirty_end
                             ELSE least(s.asked_from, r.from_ts) END,
            dirty_from = least(s.dirty_from, s.asked_from, r.from_ts), {DIRTY_SINCE}
        FROM reaching r JOIN locked USING (symbol, timeframe)
        WHERE s.asset = $4 AND s.symbol = r.symbol AND s.timeframe = r.timeframe
        """,
        reaching["symbol"],
        reaching["timeframe"],
        reaching["from_ts"],
        OHLC,
    )


def mark_dirty(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str]) -> None:
    """Have series of `symbols` that begin with the long history before `timeframe` rolled up again from its start."""
    series = series_of(transaction, symbols)
    keys = [key for key in series["timeframe"].unique() if by_key(key).base is timeframe]
    transaction.execute(
        f"""
        WITH locked AS MATERIALIZED (
            SELECT symbol, timeframe FROM market.series_state
            WHERE asset = $1 AND symbol = ANY ($2::text[]) AND timeframe = ANY ($3::text[])
                  AND timeframe <> $4 AND asked_from IS NOT NULL
            {_IN_ORDER}
        )
        UPDATE market.series_state s
        SET dirty_end = CASE WHEN s.dirty_from < s.asked_from THEN s.dirty_end ELSE s.asked_from END,
            dirty_from = least(s.dirty_from, s.asked_from), {DIRTY_SINCE}
        FROM locked l WHERE s.asset = $1 AND s.symbol = l.symbol AND s.timeframe = l.timeframe
        """,
        OHLC,
        list(symbols),
        keys,
        timeframe.key,
    )


def notes(transaction: Transaction, symbol: str) -> pl.DataFrame:
    """Return the notes on older bars of `symbol`, if any: timeframe, note, failures, due_at; sorted by timeframe."""
    return transaction.query(
        """
        SELECT timeframe, note, failures, due_at FROM market.older_history
        WHERE symbol = $1 AND note IS NOT NULL ORDER BY 1
        """,
        symbol,
    )
