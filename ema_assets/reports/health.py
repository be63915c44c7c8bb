"""Current problems of the data, for the checks: late, failing and waiting series, gaps, flags, corrections."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import by_key
from ema_assets.refresh.plan import late_limits
from ema_assets.store import ledger, quality_reports, sessions
from ema_assets.store.database import Transaction

# Many shares do not trade every five minutes.
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
    """Return fetched series that are behind, either in what was requested or in their last bar.

    A series is late if it was last requested up to two bars or more before the last close, if it has no bar, or if an
    hour of trading (at least two bars) is missing after its last bar. `closed` has calendar, provider, delay_seconds,
    timeframe, ts_end. A bar counts with its nominal length, so a series is not late overnight. Columns: symbol,
    timeframe, asked_through, last_bar, missing_bars (after it), silent_since (of a symbol without further bars), state
    (according to its provider), last_error.
    """
    missing = [max(_LATE_MINUTES // by_key(text).minutes, _LATE_BARS) for text in closed["timeframe"]]
    return ledger.late(transaction, late_limits(closed.with_columns(most_missing=pl.Series(missing, dtype=pl.Int64))))


def series_problems(failing: pl.DataFrame, late: pl.DataFrame) -> dict[str, str]:
    """Return the reasons why series are `failing` or `late` (frames as returned above), by the key of the series.

    A sentence stays the same while nothing changes, so that it is reported once.
    """
    found = {_key(row): [_why_late(row)] for row in late.iter_rows(named=True)}
    # A series that is late because its bars fail has only the reason of the failure.
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
    return f"not requested since {row['asked_through']:%Y-%m-%d %H:%M} UTC; its last bar is of {last}"
