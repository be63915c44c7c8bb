"""Everything that is computed from stored bars: rolled-up bars, EMA signals, trends, trades."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.domain.calendars import UTC_TIME
from ema_assets.domain.ema import FAST, SLOW, SMA_SEED, ema_signals
from ema_assets.domain.rollup import buckets_of, roll_up
from ema_assets.domain.strategy import trades_9_30
from ema_assets.domain.trend import ema_trend
from ema_assets.lineage import EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.pipeline.isolating import in_halves
from ema_assets.pipeline.outcome import Outcome, batches
from ema_assets.pipeline.waiting import take_up_held
from ema_assets.pipeline.watch import CODE_VERSIONS, code_versions
from ema_assets.store import latency, ledger, quality, sessions, tables
from ema_assets.store.database import Database, Transaction
from ema_assets.store.tables import Table
from ema_assets.timeframes import BASE, Timeframe

# Input rows read and held at a time: bounds memory whatever the number of series.
ROWS_A_BATCH = 400_000


@dataclass(frozen=True, slots=True)
class Computed:
    """Rows that replace what a table holds of each series from `starts` on, and the input they came from.

    `starts` has symbol and from_ts, `seen` symbol, first_ts and last_ts of the input read.
    """

    rows: pl.DataFrame
    starts: pl.DataFrame
    seen: pl.DataFrame


def _signals(transaction: Transaction, timeframe: Timeframe, starts: pl.DataFrame, seed: str) -> Computed:
    state = (FAST, SLOW, "bar_number")
    carried = tables.read_before(transaction, tables.SIGNALS, timeframe, starts, state).drop_nulls()
    # A series that is still within its first bars starts again from the first one: the seed is a mean over them.
    starts = starts.with_columns(
        pl.when(pl.col("symbol").is_in(carried["symbol"].implode()))
        .then(pl.col("from_ts"))
        .otherwise(pl.lit(ledger.BEGINNING, UTC_TIME))
        .alias("from_ts")
    )
    bars = tables.read_since(transaction, tables.BARS, timeframe, starts, ("close",))
    return Computed(ema_signals(bars, carried, seed), starts, _seen(bars))


def _trend(transaction: Transaction, timeframe: Timeframe, starts: pl.DataFrame, _seed: str) -> Computed:
    carried = tables.read_before(transaction, tables.TREND, timeframe, starts, ("trend", "bars_since_cross"))
    signals = tables.read_since(transaction, tables.SIGNALS, timeframe, starts, (FAST, SLOW, "bar_number"))
    return Computed(ema_trend(signals, carried), starts, _seen(signals))


def _trades(transaction: Transaction, timeframe: Timeframe, starts: pl.DataFrame, _seed: str) -> Computed:
    carried = tables.open_trades_before(transaction, timeframe, starts)
    trend = tables.read_since(transaction, tables.TREND, timeframe, starts, ("crossover", "bar_number"))
    # Joined here and not in SQL: right after a bulk load Postgres has no statistics, and the join took 9 s, not 0.3 s.
    closes = tables.read_since(transaction, tables.BARS, timeframe, starts, ("close",))
    bars = trend.join(closes, on=["symbol", "ts"], how="inner", maintain_order="left")
    return Computed(trades_9_30(bars, carried), starts, _seen(bars))


def _seen(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("symbol").agg(first_ts=pl.col("ts").min(), last_ts=pl.col("ts").max())


_STEPS: dict[str, tuple[Table, Callable[[Transaction, Timeframe, pl.DataFrame, str], Computed]]] = {
    EMA_SIGNALS: (tables.SIGNALS, _signals),
    EMA_TREND: (tables.TREND, _trend),
    STRATEGY: (tables.TRADES, _trades),
}


def refresh_computed(
    database: Database,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str],
    now: datetime,
    *,
    everything: bool = False,
    seed: str = SMA_SEED,
) -> Outcome:
    """Bring those of `symbols` up to date whose input changed; with `everything`, all of them from the beginning.

    `seed` is how EMAs start, one of keys.SEEDS. A series that cannot be computed costs only itself: it is in `errors`
    and in the ledger, with the time of its next attempt.
    """
    table, step = _STEPS[asset]
    outcome = Outcome()

    def work(batch: list[str]) -> None:
        with database.transaction() as transaction:
            claimed = ledger.claim(transaction, asset, timeframe, batch, everything=everything)
            if claimed.is_empty():
                return
            computed = step(transaction, timeframe, claimed.select("symbol", "from_ts"), seed)
            past, recomputed = _past(claimed, computed.rows, table.time)
            changes, flipped = tables.write_computed(
                transaction, table, timeframe, computed.rows, computed.starts, past
            )
            _report_impact(transaction, asset, timeframe, recomputed, flipped)
            results = (
                claimed.select("symbol")
                .join(changes.select("symbol", "changed_from"), on="symbol", how="left")
                .join(computed.seen, on="symbol", how="left")
                .with_columns(
                    pl.lit(None, UTC_TIME).alias(name) for name in ("checked_through", "dirty_from", "dirty_end")
                )
            )
            ledger.complete(transaction, asset, timeframe, results, code_versions(seed)[asset])
            if asset == STRATEGY:
                _measure_latency(transaction, timeframe, claimed, computed.seen)
        outcome.add_done(claimed["symbol"])
        outcome.add_written(changes)
        outcome.recomputed += int(recomputed["recomputed"].sum())
        outcome.flipped += int(flipped["flipped"].sum())

    def process(batch: list[str]) -> None:
        _quarantine(database, asset, timeframe, in_halves(batch, work), now, outcome)

    for batch in _batches(database, asset, timeframe, symbols, everything=everything):
        process(batch)
        if everything:
            take_up_held(batch, outcome, process)
    return outcome


def _quarantine(
    database: Database, asset: str, timeframe: Timeframe, errors: dict[str, str], now: datetime, outcome: Outcome
) -> None:
    if errors:
        with database.transaction() as transaction:
            ledger.fail(transaction, asset, timeframe, errors, now)
        outcome.errors.update(errors)


def _measure_latency(transaction: Transaction, timeframe: Timeframe, claimed: pl.DataFrame, seen: pl.DataFrame) -> None:
    """Note how long after its close the newest bar has reached the end of the chain, in series that go on."""
    moved = (
        claimed.join(seen.select("symbol", newest="last_ts"), on="symbol")
        .filter(pl.col("newest") > pl.col("last_ts"))
        .group_by("calendar", ts="newest")
        .agg(series=pl.len().cast(pl.Int64))
    )
    if moved.is_empty():
        return
    low, high = moved.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    trading = sessions.between(transaction, moved["calendar"].unique().to_list(), low, high)
    closed = buckets_of(moved, timeframe, trading).filter(pl.col("bucket_end").is_not_null())
    latency.record(transaction, timeframe, closed.group_by("bucket_end").agg(pl.col("series").sum()))


def _past(claimed: pl.DataFrame, rows: pl.DataFrame, time: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Series whose input changed in the past, and how many of the new `rows` are not new.

    The first frame has symbol, from_ts, last_ts; the second symbol, recomputed. A series that is computed from the
    beginning, for new code or because a person asked for it, has no part in this: nothing was revised.
    """
    past = claimed.filter(pl.col("from_ts") > ledger.BEGINNING, pl.col("from_ts") <= pl.col("last_ts")).select(
        "symbol", "from_ts", "last_ts"
    )
    old = rows.join(past, on="symbol").filter(pl.col(time).is_between("from_ts", "last_ts"))
    return past, old.group_by("symbol").agg(recomputed=pl.len().cast(pl.Int64))


def _report_impact(
    transaction: Transaction, asset: str, timeframe: Timeframe, recomputed: pl.DataFrame, flipped: pl.DataFrame
) -> None:
    """Add to the blast radius of the revisions behind what was computed again."""
    impact = recomputed.join(flipped, on="symbol", how="full", coalesce=True).fill_null(0)
    nothing = pl.lit(0, pl.Int64)
    quality.add_impact(
        transaction,
        timeframe,
        impact.select(
            "symbol",
            "recomputed",
            crossovers=pl.col("flipped") if asset == EMA_TREND else nothing,
            trades=pl.col("flipped") if asset == STRATEGY else nothing,
        ),
    )


def refresh_rolled_up(
    database: Database, timeframe: Timeframe, symbols: Sequence[str], now: datetime, *, everything: bool = False
) -> Outcome:
    """Publish the bars of a rolled-up `timeframe` whose 5m bars are complete, where those changed.

    A series that cannot be rolled up costs only itself, as in `refresh_computed`.
    """
    outcome = Outcome()

    def work(batch: list[str]) -> None:
        with database.transaction() as transaction:
            claimed = ledger.claim(transaction, OHLC, timeframe, batch, everything=everything)
            if claimed.is_empty():
                return
            bars = tables.read_since(
                transaction, tables.BARS, BASE, claimed.select("symbol", "from_ts"), tables.BARS.values
            )
            trading = _sessions_of(transaction, claimed, bars)
            closed, still_open = roll_up(
                bars.join(claimed.select("symbol", "calendar"), on="symbol", maintain_order="left"),
                timeframe,
                trading,
                claimed.select("symbol", "complete_through"),
            )
            changes = tables.write_bars(transaction, timeframe, closed)
            _, recomputed = _past(claimed, closed, tables.BARS.time)
            _report_impact(
                transaction, OHLC, timeframe, recomputed, flipped=recomputed.clear().rename({"recomputed": "flipped"})
            )
            results = (
                claimed.select("symbol", checked_through="complete_through")
                .join(changes.select("symbol", "changed_from"), on="symbol", how="left")
                .join(_seen(closed), on="symbol", how="left")
                .join(still_open.rename({"bucket": "dirty_from", "bucket_end": "dirty_end"}), on="symbol", how="left")
            )
            ledger.complete(transaction, OHLC, timeframe, results, CODE_VERSIONS[OHLC])
        outcome.add_done(claimed["symbol"])
        outcome.add_written(changes)
        outcome.recomputed += int(recomputed["recomputed"].sum())
        outcome.corrected += int(changes["corrected"].sum())

    def process(batch: list[str]) -> None:
        _quarantine(database, OHLC, timeframe, in_halves(batch, work), now, outcome)

    for batch in _batches(database, OHLC, timeframe, symbols, everything=everything):
        process(batch)
        if everything:
            take_up_held(batch, outcome, process)
    return outcome


def _sessions_of(transaction: Transaction, claimed: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    low, high = bars.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    if low is None:
        low = high = ledger.BEGINNING
    return sessions.between(transaction, claimed["calendar"].unique().to_list(), low, high)


def _batches(
    database: Database, asset: str, timeframe: Timeframe, symbols: Sequence[str], *, everything: bool
) -> list[list[str]]:
    with database.transaction() as transaction:
        pending = ledger.pending(transaction, asset, timeframe, symbols, everything=everything)
    source_minutes = BASE.minutes if asset == OHLC else timeframe.minutes
    span = pl.col("input_last") - pl.max_horizontal("since", "input_first")
    # An upper bound: it takes every market for one that never closes.
    estimates = pending.select(
        "symbol", rows=(span / timedelta(minutes=source_minutes)).cast(pl.Int64).fill_null(0).clip(lower_bound=0) + 1
    )
    return list(batches(estimates, ROWS_A_BATCH))
