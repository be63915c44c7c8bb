"""Converts everything else to the new scale of a series: bars its vendor no longer serves, long history, file bars.

A cliff in any of them would cause a false trade.
"""

import polars as pl

from ema_assets.market.corporate_actions import rescaled
from ema_assets.market.file_scales import on_old_scale
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.refresh.answers import Storing
from ema_assets.store import file_spans, ledger, long_history, older_history, tables

_NONE_STORED = pl.Schema({"symbol": pl.String(), "ts": UTC_TIME, **dict.fromkeys(tables.BARS.values, pl.Float64())})


def stored_bars(storing: Storing, splits: pl.DataFrame) -> pl.DataFrame:
    """Return all stored bars of the series in `splits`, unconverted: symbol, ts, prices, volume; sorted."""
    if splits.is_empty():
        return _NONE_STORED.to_frame()
    return tables.read_since(storing.transaction, tables.BARS, storing.timeframe, _whole(splits), tables.BARS.values)


def leftover_bars(storing: Storing, splits: pl.DataFrame, accepted: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Return the `stored_bars` on the old scale that the vendor did not serve, on the new scale: BAR_SCHEMA."""
    if splits.is_empty():
        return accepted.clear()
    leftover = stored.join(accepted, on=["symbol", "ts"], how="anti").with_columns(
        timeframe=pl.lit(storing.timeframe.key)
    )
    is_old = leftover.join(splits.select("symbol", "last_ts"), on="symbol").filter(pl.col("ts") <= pl.col("last_ts"))
    return rescaled(is_old.select(list(BAR_SCHEMA)), splits)


def rescale_long_history(storing: Storing, splits: pl.DataFrame) -> None:
    """Convert the long history before the series in `splits` to their new scale, and have it requested again."""
    if splits.is_empty() or not storing.timeframe.is_fetched:
        return
    symbols = splits["symbol"].to_list()
    long = long_history.long_bars(storing.transaction, storing.timeframe, _whole(splits))
    if not long.is_empty():
        long_history.rescale(storing.transaction, storing.timeframe, rescaled(long, splits))
        older_history.mark_dirty(storing.transaction, storing.timeframe, symbols)
    older_history.ask_again(storing.transaction, storing.timeframe, symbols, storing.now)


def rescaled_files(
    storing: Storing, splits: pl.DataFrame, stored: pl.DataFrame
) -> list[tuple[Timeframe, pl.DataFrame, pl.DataFrame]]:
    """Return file bars that are stored in place of rolled-up ones of the series in `splits`, on the new scale.

    `stored` are the `stored_bars` from before the conversion.

    Returns:
        For each rolled-up timeframe with such bars: the timeframe, what `ledger.lock` returned for its series, and the
        bars (BAR_SCHEMA).
    """
    if splits.is_empty() or not storing.timeframe.is_fetched:
        return []
    transaction, symbols = storing.transaction, splits["symbol"].to_list()
    fed = [by_key(key) for key in file_spans.timeframes(transaction, symbols)]
    fed = sorted(each for each in fed if each.source is storing.timeframe)
    if not fed:
        return []
    found = []
    for timeframe in fed:
        locked = ledger.lock(transaction, OHLC, timeframe, symbols)
        bars = file_spans.bars_of_files(transaction, timeframe, symbols)
        old = on_old_scale(bars, stored, timeframe, splits).with_columns(timeframe=pl.lit(timeframe.key))
        if not old.is_empty():
            found.append((timeframe, locked, rescaled(old.select(list(BAR_SCHEMA)), splits)))
    return found


def _whole(splits: pl.DataFrame) -> pl.DataFrame:
    return splits.select("symbol", from_ts=pl.lit(ledger.BEGINNING, UTC_TIME))
