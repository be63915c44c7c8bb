"""What is wrong with the data now: late, failing and waiting series, gaps, flags, corrections. For the checks."""

import polars as pl

from ema_assets.refresh.plan import late_limits
from ema_assets.store import ledger, quality_reports, sessions
from ema_assets.store.database import Transaction

failing = ledger.failing
waiting_since = ledger.waiting_since
rejected_since = quality_reports.rejected_since
flagged_since = quality_reports.flagged_since
revised_since = quality_reports.revised_since
open_gaps = quality_reports.open_gaps
settled_gaps = quality_reports.settled_gaps
quality = quality_reports.quality
ending_calendars = sessions.ending_calendars


def late_series(transaction: Transaction, closed: pl.DataFrame) -> pl.DataFrame:
    """Fetched series last asked for two bars before the last close or earlier, or of which the provider has no bar.

    `closed` has calendar, provider, timeframe, ts_end. Columns: symbol, timeframe, asked_through,
    silent_since (of a symbol that has no bars any more), state (what its provider says of it), last_error.
    """
    return ledger.late(transaction, late_limits(closed))
