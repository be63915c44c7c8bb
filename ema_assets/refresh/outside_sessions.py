"""Finds stored bars that validation refuses now that the sessions are others: of an answer, or the newest ones."""

from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.validation import NOT_CLOSED, Validated, validate
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import FLAG_SCHEMA
from ema_assets.model.symbols import FROM_FILES
from ema_assets.model.timeframes import FETCHED
from ema_assets.refresh.answers import Storing
from ema_assets.refresh.take_over import delete
from ema_assets.store import ledger, quality, sessions, tables
from ema_assets.store.database import Transaction


def outside_sessions(storing: Storing, skipped: pl.DataFrame) -> pl.DataFrame:
    """Return the stored bars in place of `skipped` ones of the answer that would be skipped as well: symbol, ts.

    They were stored before their day was closed or its hours were changed. A bar that its source does not send any more
    stays, as does one that was stored with another volume and is accepted because of it.
    """
    # A day is labelled at most 24 hours before its session ends, and stored at the open of that session.
    longest = timedelta(days=1) if storing.timeframe.is_session else timedelta(0)
    spans = (
        skipped.filter(pl.col("reason") != NOT_CLOSED)
        .join(storing.locked.select("symbol", "first_ts", "last_ts"), on="symbol")
        .filter(pl.col("ts") <= pl.col("last_ts"), pl.col("ts") + longest >= pl.col("first_ts"))
        .select("symbol", first="ts", last=pl.col("ts") + longest)
    )
    if spans.is_empty():
        return skipped.select("symbol", "ts").clear()
    stored = tables.bars_between(storing.transaction, storing.timeframe, spans).unique(["symbol", "ts"])
    stored = stored.with_columns(timeframe=pl.lit(storing.timeframe.key))
    answer = storing.answer
    return _outside(validate(stored, storing.timeframe, storing.instruments, storing.trading, answer.closed_by))


def _outside(validated: Validated) -> pl.DataFrame:
    return validated.skipped.filter(pl.col("reason") != NOT_CLOSED).select("symbol", "ts").sort("symbol", "ts")


def delete_newest_outside(transaction: Transaction, calendar: str, since: datetime, now: datetime) -> None:
    """Delete the newest bars of `calendar` that are outside its sessions, which have changed from `since` (UTC) on.

    They are those after the last session that has closed at `now`. Their provider is asked only when the next one has,
    so they would be used until then. It sends them again if the sessions come back. Bars of symbols from files stay.
    """
    trading = sessions.between(transaction, [calendar], since, now)
    ended = trading.filter(pl.col("close") <= now)["close"].max()
    first = since if ended is None else max(since, ended)
    watched = ledger.watched(transaction).filter(pl.col("calendar") == calendar)
    fetched = watched.filter(pl.col("provider").ne_missing(FROM_FILES)).select("symbol", "calendar", "allow_negative")
    for timeframe in FETCHED:
        newest = ledger.newest_bars(transaction, OHLC, timeframe, fetched["symbol"]).filter(pl.col("last_ts") >= first)
        if newest.is_empty():
            continue
        spans = newest.select("symbol", first=pl.lit(first), last="last_ts")
        stored = tables.bars_between(transaction, timeframe, spans).with_columns(timeframe=pl.lit(timeframe.key))
        gone = _outside(validate(stored, timeframe, fetched, trading, now))
        if not gone.is_empty():
            delete(transaction, timeframe, gone)
            none_after = gone.clear().with_columns(reason=pl.lit(None, pl.String))
            quality.flag(transaction, timeframe, gone, none_after, FLAG_SCHEMA.to_frame())
            ledger.find_ends(transaction, timeframe, gone["symbol"].unique().sort().to_list(), is_revision=True)
