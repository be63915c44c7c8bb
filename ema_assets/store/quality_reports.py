"""What is known about the quality of bars, for checks and reports: rejected, flagged, revised, missing. SQL only."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.store.database import Transaction


def rejected_since(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Return counts of bars rejected since `since`: symbol, timeframe, reason, source, bars; most bars first."""
    return transaction.query(
        """
        SELECT symbol, timeframe, reason, source, count(*) AS bars FROM market.bar_rejected
        WHERE rejected_at >= $1 GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2
        """,
        since,
    )


def flagged_since(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Return bars flagged as suspicious since `since`: symbol, timeframe, ts, reason, detail; newest ts first."""
    return transaction.query(
        """
        SELECT symbol, timeframe, ts, reason, detail FROM market.bar_flag
        WHERE flagged_at >= $1 ORDER BY ts DESC, symbol
        """,
        since,
    )


def flags_of(
    transaction: Transaction,
    timeframe: str,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
) -> pl.DataFrame:
    """Return flags of `symbols` (None: all) from `start` to before `end` (None: open): symbol, ts, reason, detail.

    Sorted by symbol and ts.
    """
    return transaction.query(
        """
        SELECT symbol, ts, reason, detail FROM market.bar_flag
        WHERE timeframe = $1 AND ($2::text[] IS NULL OR symbol = ANY ($2::text[]))
          AND ($3::timestamptz IS NULL OR ts >= $3::timestamptz) AND ($4::timestamptz IS NULL OR ts < $4::timestamptz)
        ORDER BY symbol, ts
        """,
        timeframe,
        None if symbols is None else list(symbols),
        start,
        end,
    )


def revised_since(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Return revisions since `since`, except late bars, with their blast radius; newest first."""
    return transaction.query(
        """
        SELECT symbol, timeframe, kind, changed_from, bars_corrected, rows_recomputed, crossovers_flipped,
               trades_flipped, source, revised_at
        FROM market.bar_revision WHERE revised_at >= $1 AND kind <> 'late bars' ORDER BY id DESC
        """,
        since,
    )


def open_gaps(transaction: Transaction) -> pl.DataFrame:
    """Return open gaps: symbol, timeframe, first_ts, last_ts, bars, asked, next_attempt_at; newest first."""
    return transaction.query(
        """
        SELECT g.symbol, g.timeframe, g.first_ts, g.last_ts, g.bars, g.asked, g.next_attempt_at
        FROM market.bar_gap g JOIN market.instrument i ON i.symbol = g.symbol AND i.is_active
        WHERE g.status = 'open' AND g.timeframe = ANY (i.timeframes) ORDER BY g.first_ts DESC, 1, 2
        """
    )


def settled_gaps(transaction: Transaction) -> int:
    """Return how many bars are accepted as not traded."""
    found = transaction.query(
        "SELECT coalesce(sum(bars), 0)::bigint AS n FROM market.bar_gap WHERE status = 'did not trade'"
    )
    return int(found.item())


# The kinds that `quality` reports: the columns shown, the table, and the column by which the newest come first.
_QUALITY = {
    "gaps": (
        "symbol || '|' || timeframe AS series, first_ts, last_ts, bars, status, asked, next_attempt_at",
        "bar_gap",
        "last_ts",
    ),
    "revisions": (
        """
        symbol || '|' || timeframe AS series, kind, detail, changed_from, bars_corrected, bars_late, rows_recomputed,
        crossovers_flipped, trades_flipped, source, revised_at
        """,
        "bar_revision",
        "id",
    ),
    "flagged": ("symbol || '|' || timeframe AS series, ts, reason, detail", "bar_flag", "ts"),
    "rejected": (
        "symbol || '|' || timeframe AS series, ts, reason, open, high, low, close, volume, source",
        "bar_rejected",
        "ts",
    ),
    "skipped": (
        "symbol || '|' || timeframe AS series, reason, bars, last_ts, source",
        "bar_skipped",
        "last_seen_at",
    ),
}


def quality(transaction: Transaction, symbols: Sequence[str], limit: int | None) -> dict[str, tuple[int, pl.DataFrame]]:
    """Return what is wrong or odd about bars of `symbols` (empty: all): per kind, the number of rows and the newest.

    Kinds: gaps, revisions, flagged, rejected, skipped. At most `limit` rows per kind, None for all.
    """
    found = {}
    for kind, (columns, table, newest) in _QUALITY.items():
        where = f"FROM market.{table} WHERE $1 = 0 OR symbol = ANY ($2::text[])"
        count = transaction.query(f"SELECT count(*) AS n {where}", len(symbols), list(symbols)).item()
        rows = transaction.query(
            f"SELECT {columns} {where} ORDER BY {newest} DESC NULLS LAST, symbol LIMIT $3",
            len(symbols),
            list(symbols),
            count if limit is None else limit,
        )
        found[kind] = (count, rows)
    return found
