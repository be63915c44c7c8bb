"""After an answer is stored: which bars of the requested spans do not exist, and how the known gaps change."""

import polars as pl

from ema_assets.market import gaps
from ema_assets.model.schemas import GAP_SCHEMA
from ema_assets.refresh.answers import Extent, Storing, spans_of
from ema_assets.store import quality, tables


def account_for_gaps(storing: Storing, accepted: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Update the gaps within the spans `asked`; return symbol and bars, the number of missing bars per symbol."""
    transaction, timeframe = storing.transaction, storing.timeframe
    nothing = pl.DataFrame(schema={"symbol": pl.String(), "bars": pl.Int64()})
    windows = _windows(accepted, asked, storing.locked)
    if windows.is_empty():
        return nothing
    known = quality.gaps_within(transaction, timeframe, windows)
    windows = _reaching_over(windows, known, storing)
    trading = storing.sessions_from(windows["start"].min(), windows["calendar"])
    expected = _expected_bars(storing, windows, accepted, trading)
    candidates = expected.join(accepted, on=["symbol", "ts"], how="anti")
    if candidates.is_empty() and known.is_empty():
        return nothing
    present = tables.closes_between(transaction, timeframe, spans_of(candidates))
    missing = candidates.join(present, on=["symbol", "ts"], how="anti")
    is_asked = windows.select("symbol", "is_fetched")
    outage = missing.clear()
    if not timeframe.is_session:  # missing days are requested patiently in any case
        recent = missing.filter(pl.col("ts_end") > storing.now - gaps.PATIENT_FOR)
        outage = quality.missed_by_all(transaction, timeframe, recent)
    updated = gaps.reconcile(
        missing,
        known,
        timeframe,
        storing.now,
        is_asked=is_asked,
        outage=outage,
        is_answered=storing.answer.extent is not Extent.FILE,
    )
    known = known.match_to_schema(GAP_SCHEMA, integer_cast="upcast")
    columns = list(GAP_SCHEMA)
    quality.replace_gaps(
        transaction,
        timeframe,
        known.join(updated, on=columns, how="anti", nulls_equal=True),
        updated.join(known, on=columns, how="anti", nulls_equal=True),
    )
    return updated.group_by("symbol").agg(pl.col("bars").sum())


def _windows(accepted: pl.DataFrame, asked: pl.DataFrame, locked: pl.DataFrame) -> pl.DataFrame:
    """Return the time span in which bars of each series are expected: symbol, calendar, start, end, is_fetched."""
    series = asked.join(spans_of(accepted), on="symbol", how="left").join(locked, on="symbol", how="left")
    # There may be a hole between two files of a series, but a provider's history has no gap before its first bar.
    series = series.with_columns(
        start=pl.when("is_fetched").then("start").otherwise(pl.min_horizontal("start", "last_ts")),
        end=pl.when("is_fetched").then("end").otherwise(pl.max_horizontal("end", "first_ts")),
    )
    first_bar = pl.min_horizontal("first", "first_ts")
    return (
        series.with_columns(start=pl.max_horizontal("start", first_bar))
        .filter(first_bar.is_not_null(), pl.col("start") < pl.col("end"))
        .select("symbol", "calendar", "start", "end", "is_fetched")
    )


def _reaching_over(windows: pl.DataFrame, known: pl.DataFrame, storing: Storing) -> pl.DataFrame:
    """Return `windows`, widened so that they contain the whole of every `known` gap."""
    reach = known.group_by("symbol").agg(low=pl.col("first_ts").min(), high=pl.col("last_ts").max())
    just_after = pl.col("high") + pl.lit(storing.timeframe.duration)
    return windows.join(reach, on="symbol", how="left").with_columns(
        pl.min_horizontal("start", "low").alias("start"), pl.max_horizontal("end", just_after).alias("end")
    )


def _expected_bars(
    storing: Storing, windows: pl.DataFrame, accepted: pl.DataFrame, trading: pl.DataFrame
) -> pl.DataFrame:
    """Return the bars that should exist in `windows`, on the grid that the bars of each series follow."""
    timeframe = storing.timeframe
    sessions_near = trading.filter(pl.col("close") > windows["start"].min(), pl.col("open") < windows["end"].max())
    by_session = gaps.grid_with_slots(sessions_near, timeframe)
    if timeframe.is_fetched:
        return gaps.expected(windows, by_session)
    # The bars in files of rolled-up timeframes begin by the session or by the clock.
    by_clock = gaps.grid_with_slots(sessions_near, timeframe, by_clock=True)
    placed = accepted.join(windows.select("symbol", "calendar"), on="symbol")
    count = pl.len().alias("bars")
    on_session = placed.join(by_session, on=["calendar", "ts"], how="semi").group_by("symbol").agg(count)
    on_clock = placed.join(by_clock, on=["calendar", "ts"], how="semi").group_by("symbol").agg(count)
    clocked = on_clock.join(on_session, on="symbol", how="left", suffix="_session").filter(
        pl.col("bars") > pl.col("bars_session").fill_null(0)
    )
    is_clocked = pl.col("symbol").is_in(clocked["symbol"].implode())
    return pl.concat(
        [
            gaps.expected(windows.filter(~is_clocked), by_session),
            gaps.expected(windows.filter(is_clocked), by_clock),
        ]
    )
