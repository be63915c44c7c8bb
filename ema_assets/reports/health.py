"""What is wrong with the data now: late, failing and waiting series, gaps, flags, corrections. For the checks."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import by_key
from ema_assets.refresh.plan import late_limits
from ema_assets.store import ledger, quality_reports, sessions
from ema_assets.store.database import Transaction

# Many a share does not trade in every five minutes.
_LATE_MINUTES, _LATE_BARS = 60, 2

NO_LATE_SERIES = pl.DataFrame(schema={"symbol": pl.String(), "timeframe": pl.String()})

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
    """Fetched series that are behind: by when they were asked for last, or by their last bar.

    Late is one that was asked for two bars before the last close or earlier, that has no bar, or of which an hour of
    trading is missing after its last bar, of days two. `closed` has calendar, provider, timeframe, ts_end. A bar counts
    its nominal length, so a series is not late overnight. Columns: symbol, timeframe, asked_through, last_bar,
    missing_bars (after it), silent_since (of a symbol that has no bars any more), state (what its provider says of it),
    last_error.
    """
    missing = [max(_LATE_MINUTES // by_key(text).minutes, _LATE_BARS) for text in closed["timeframe"]]
    return ledger.late(transaction, late_limits(closed.with_columns(most_missing=pl.Series(missing, dtype=pl.Int64))))


def series_problems(failing: pl.DataFrame, late: pl.DataFrame) -> dict[str, str]:
    """Why each series that is not well is so, by its key: of `failing` and `late` series, as above.

    A sentence stays the same while nothing changes, so that it is said once.
    """
    found = {_key(row): [_why_late(row)] for row in late.iter_rows(named=True)}
    # What is late because it fails says so once.
    for row in failing.filter(asset=OHLC).iter_rows(named=True):
        found.pop(_key(row), None)
    for row in failing.iter_rows(named=True):
        found.setdefault(_key(row), []).append(f"{row['asset']}: {row['last_error']}")
    return {series: "; ".join(reasons) for series, reasons in found.items()}


def _key(row: Mapping[str, Any]) -> str:
    return str(Series(row["symbol"], by_key(row["timeframe"])))


def _why_late(row: Mapping[str, Any]) -> str:
    if row["last_bar"] is None:
        return "the provider has no bar of it"
    last = f"{row['last_bar']:%Y-%m-%d %H:%M} UTC"
    if row["silent_since"] is not None or row["missing_bars"]:
        return f"no bar since {last}, though trading went on"
    return f"not asked for since {row['asked_through']:%Y-%m-%d %H:%M} UTC; its last bar is of {last}"
