"""Questions about the health of all series and their bars. The statements that answer them are in the store."""

import polars as pl

from ema_assets.model.timeframes import FETCHED, by_key
from ema_assets.store import quality_summary, sessions
from ema_assets.store.database import Transaction
from ema_assets.store.ledger import summary

ending_calendars = sessions.ending_calendars
failing = summary.failing
flagged_since = quality_summary.flagged_since
open_gaps = quality_summary.open_gaps
quality = quality_summary.findings
rejected_since = quality_summary.rejected_since
revised_since = quality_summary.revised_since
settled_gaps = quality_summary.settled_gaps
waiting_since = summary.waiting_since


def late_series(transaction: Transaction, closed: pl.DataFrame) -> pl.DataFrame:
    """Fetched series last asked for two bars before the last close or earlier, or of which the provider has no bar.

    `closed` has calendar, timeframe, ts_end. A bar counts its nominal length, so a series is not late overnight.
    Columns: symbol, timeframe, asked_through, last_error.
    """
    two_bars = [2 * by_key(key).duration for key in closed["timeframe"]]
    limits = closed.with_columns(late_before=pl.col("ts_end") - pl.Series(two_bars, dtype=pl.Duration("us")))
    return summary.behind(transaction, limits.filter(pl.col("timeframe").is_in([each.key for each in FETCHED])))
