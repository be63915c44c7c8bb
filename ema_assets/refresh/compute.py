"""One engine for everything that is computed from stored bars: rolled-up bars, signals and trades."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from ema_assets.market.calendars import place, reach, with_trend_of
from ema_assets.market.rollups import CODE_VERSION, buckets_of, roll_up, without_owned
from ema_assets.model.asset_names import OHLC, STRATEGY
from ema_assets.model.errors import CodeDiffers
from ema_assets.model.schemas import COMPLETED_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh import impact, long_bars
from ema_assets.refresh.graph import Node
from ema_assets.refresh.isolate import bisect
from ema_assets.refresh.outcome import Outcome, batches
from ema_assets.refresh.own_code import edition_of
from ema_assets.refresh.waiting import retry_locked
from ema_assets.refresh.why_stale import why_claimed
from ema_assets.store import file_spans, latency, ledger, sessions, tables
from ema_assets.store.database import Database, Transaction
from ema_assets.strategies.simulator.bars import NEWEST_STATES, STATE_EVERY, known_trend
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.trade_columns import STATE_SCHEMA
from ema_assets.strategies.variant import Variant

if TYPE_CHECKING:
    from ema_assets.alerts.subscriptions import Alerts

# The number of input rows in memory at a time. It bounds memory for any number of series.
ROWS_A_BATCH = 400_000


# The columns of COMPLETED_SCHEMA that are null for a computed series.
_SAID = ("symbol", "changed_from", "first_ts", "last_ts")
_NOTHING_ELSE = [pl.lit(None, UTC_TIME).alias(name) for name in COMPLETED_SCHEMA if name not in _SAID]


@dataclass(frozen=True, slots=True)
class Computed:
    """Rows that replace the stored rows of each series from `starts` on, and the input that they were computed from.

    `starts` has symbol and from_ts; `seen` has symbol, first_ts and last_ts of the input that was read. `states` are
    the states from which a strategy continues later, for the same series and from the same times on.
    """

    rows: pl.DataFrame
    starts: pl.DataFrame
    seen: pl.DataFrame
    states: pl.DataFrame | None = None


def compute(transaction: Transaction, node: Node, timeframe: Timeframe, claimed: pl.DataFrame) -> Computed:
    """Compute the rows of `node` for `claimed` (symbol, calendar, from_ts) from the stored input and carried state."""
    return (_signal if node.signal is not None else _strategy)(transaction, node, timeframe, claimed)


def _signal(transaction: Transaction, node: Node, timeframe: Timeframe, claimed: pl.DataFrame) -> Computed:
    signal, starts = node.signal, claimed.select("symbol", "from_ts")
    assert signal is not None
    carried = starts.select("symbol").clear()
    if signal.carries:
        carried = tables.read_before(transaction, node.table, timeframe, starts, signal.carries)
        if not signal.carries_nulls:
            # A series that is still within its first bars starts again from the first one.
            carried = carried.drop_nulls()
            if carried.height < starts.height:
                starts = _from_the_beginning(starts, ~pl.col("symbol").is_in(carried["symbol"].implode()))
    reading = starts
    if before := signal.bars_before(node.params):
        reading = tables.earlier(transaction, _source(node), timeframe, starts, before)
    bars = _read(transaction, node, timeframe, reading)
    is_new = pl.lit(True)
    if before:
        bars = bars.join(starts, on="symbol", how="left", maintain_order="left")
        is_new = pl.col("ts") >= pl.col("from_ts")
    bars = bars.with_columns(is_new=is_new)
    if signal.has_sessions:
        bars = _placed(transaction, bars, timeframe, claimed)
    wanted = ["symbol", "ts", *_columns_read(node), "is_new", *(["session"] if signal.has_sessions else [])]
    bars = bars.select(wanted)
    rows = signal.compute(bars, carried, node.params)
    if before:
        rows = rows.filter(bars["is_new"])
    return Computed(rows, starts, _seen(bars.filter("is_new")))


def _strategy(transaction: Transaction, node: Node, timeframe: Timeframe, claimed: pl.DataFrame) -> Computed:
    assert node.variant is not None
    variant, starts = node.variant.on(timeframe), claimed.select("symbol", "from_ts")
    # A simulation continues from its newest stored state before the change.
    carried = tables.read_before(transaction, node.states, timeframe, starts, ("ts", *node.states.values))
    starts = (
        starts.select("symbol")
        .join(carried.select("symbol", from_ts=pl.col("ts") + timedelta(microseconds=1)), on="symbol", how="left")
        .with_columns(pl.col("from_ts").fill_null(pl.lit(ledger.BEGINNING, UTC_TIME)))
    )
    bars = _read(transaction, node, timeframe, starts)
    bars = _placed(transaction, bars, timeframe, claimed) if variant.reads_sessions else bars
    if variant.higher_timeframe is not None:
        bars = _with_trend_of(transaction, bars, variant, claimed, starts)
    done = simulate(bars, carried.select("symbol", *STATE_SCHEMA), variant)
    states = done.states.join(bars.select("symbol", "ts", "bar_number"), on=["symbol", "ts"], maintain_order="left")
    return Computed(done.trades, starts, _seen(bars), states)


def _source(node: Node) -> tables.Table:
    """Return the table of the main input, from which only the times are read."""
    assert node.main_input is not None
    return tables.Table(node.main_input, "ts")


def _columns_read(node: Node) -> list[str]:
    return [name for columns in node.reads.values() for name in columns]


def _read(transaction: Transaction, node: Node, timeframe: Timeframe, starts: pl.DataFrame) -> pl.DataFrame:
    """Return symbol, ts and the columns that `node` reads, from `starts` on, for bars that all inputs have; sorted.

    The join is made here and not in SQL: after a bulk load PostgreSQL has no statistics, and it took 9 s, not 0.3 s.
    """
    parts = [
        tables.read_since(transaction, tables.Table(asset, "ts"), timeframe, starts, columns)
        for asset, columns in node.reads.items()
    ]
    return side_by_side(parts)


def side_by_side(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the columns of all `parts` in one frame, for the bars (symbol, ts) that every part has, in their order."""
    bars = parts[0]
    for part in parts[1:]:
        # Usually all parts have the same bars. This comparison takes a twentieth of the time of a join.
        if all(bars[key].equals(part[key]) for key in ("symbol", "ts")):
            bars = bars.hstack(part.drop("symbol", "ts"))
        else:
            bars = bars.join(part, on=["symbol", "ts"], how="inner", maintain_order="left")
    return bars


def _placed(transaction: Transaction, bars: pl.DataFrame, timeframe: Timeframe, claimed: pl.DataFrame) -> pl.DataFrame:
    """Return `bars` with session, is_session_last and ts_end."""
    calendars = claimed.select("symbol", "calendar")
    trading = sessions_of(transaction, calendars, bars, timeframe)
    return place(bars.join(calendars, on="symbol", how="left", maintain_order="left"), timeframe, trading)


def _with_trend_of(
    transaction: Transaction, bars: pl.DataFrame, variant: Variant, claimed: pl.DataFrame, starts: pl.DataFrame
) -> pl.DataFrame:
    """Return `bars` with higher_trend, from the last higher-timeframe bar that had closed when each bar closed."""
    higher = variant.higher_timeframe
    assert higher is not None
    columns = ("ts", "trend", "bar_number")
    trend = tables.Table(variant.trend, "ts")
    early = starts.with_columns(pl.col("from_ts") - pl.lit(higher.duration))
    rows = pl.concat(
        [
            tables.read_before(transaction, trend, higher, early, columns),
            tables.read_since(transaction, trend, higher, early, columns[1:]),
        ]
    )
    placed = _placed(transaction, rows, higher, claimed)
    return with_trend_of(bars, placed.select("symbol", "ts_end", known_trend(variant)))


def _from_the_beginning(starts: pl.DataFrame, which: pl.Expr) -> pl.DataFrame:
    return starts.with_columns(
        pl.when(which).then(pl.lit(ledger.BEGINNING, UTC_TIME)).otherwise("from_ts").alias("from_ts")
    )


def _seen(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("symbol").agg(first_ts=pl.col("ts").min(), last_ts=pl.col("ts").max())


def refresh_computed(
    database: Database,
    node: Node,
    timeframe: Timeframe,
    symbols: Sequence[str],
    now: datetime,
    *,
    everything: bool = False,
    alerts: "Alerts | None" = None,
    run_id: str | None = None,
) -> Outcome:
    """Bring the series of `symbols` whose input changed up to date; with `everything`, all, from the beginning.

    `alerts` are raised for bars that have just closed, never with `everything`. `run_id` is Dagster's. A series that
    cannot be computed does not affect the others: its error is in `errors` and, with the time of the next attempt, in
    the ledger.
    """
    outcome = Outcome()
    tell = _teller(alerts, node, timeframe, now) if alerts is not None and not everything else None

    def work(batch: list[str]) -> None:
        with database.transaction() as transaction:
            claimed = ledger.claim(transaction, node.name, timeframe, batch, everything=everything)
            if claimed.is_empty():
                return
            if not everything and claimed["adopted"][0] not in {None, node.code_version}:
                # After an edit of the configuration, new bars wait until the sync has adopted it: all rows of a series
                # have one code version, and the sync has the whole series computed.
                return
            computed = compute(transaction, node, timeframe, claimed)
            computed_at = time.monotonic()
            past = impact.revised(transaction, node.name, timeframe, claimed, node.variant, everything=everything)
            recomputed = impact.recomputed(past, computed.rows, node.table.time)
            changes, flipped = tables.write_computed(
                transaction, node.table, timeframe, computed.rows, computed.starts, past
            )
            if computed.states is not None:
                tables.write_computed(transaction, node.states, timeframe, computed.states, computed.starts)
                tables.thin_out(transaction, node.states, timeframe, claimed["symbol"], NEWEST_STATES, STATE_EVERY)
            results = (
                claimed.select("symbol")
                .join(changes.select("symbol", "changed_from"), on="symbol", how="left")
                .join(computed.seen, on="symbol", how="left")
                .with_columns(_NOTHING_ELSE)
            )
            ledger.complete(transaction, node.name, timeframe, results, node.code_version)
            impact.report(transaction, timeframe, recomputed, node.table.flips, flipped)
            if node.name == STRATEGY:
                closed = _closed(transaction, timeframe, claimed, computed.seen)
                if not closed.is_empty():
                    latency.record(transaction, timeframe, closed, run_id, time.monotonic() - computed_at)
            if tell is not None:
                tell(transaction, claimed, computed, flipped)
        outcome.add_done(claimed["symbol"])
        outcome.reasons.update(why_claimed(claimed, node.code_version, everything=everything))
        outcome.add_written(changes)
        outcome.recomputed += int(recomputed["recomputed"].sum())
        outcome.flipped += int(flipped["flipped"].sum())

    _in_batches(database, _Wanted(node.name, timeframe, symbols, now, everything, edition_of(node)), work, outcome)
    return outcome


def _teller(
    alerts: "Alerts", node: Node, timeframe: Timeframe, now: datetime
) -> Callable[[Transaction, pl.DataFrame, Computed, pl.DataFrame], object] | None:
    """Return a function that raises the alerts of a computed batch, or None when no subscription wants any.

    Its arguments are the transaction, the claimed series, what was computed, and the flips.
    """
    from ema_assets.refresh.raise_alerts import known_of, raise_alerts, subscribed

    wanted = subscribed(alerts, node, timeframe)
    if not wanted:
        return None
    return lambda transaction, claimed, computed, flipped: raise_alerts(
        transaction, wanted, node, timeframe, known_of(claimed, computed.seen), computed.rows, flipped, now
    )


def refused(
    database: Database,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str],
    now: datetime,
    *,
    error: CodeDiffers,
    everything: bool,
) -> Outcome:
    """Compute nothing of `asset`; record `error` in `errors` and the ledger for the pending series of `symbols`."""
    outcome = Outcome()

    def work(batch: list[str]) -> None:
        with database.transaction() as transaction:
            if not ledger.claim(transaction, asset, timeframe, batch, everything=everything).is_empty():
                raise error

    _in_batches(database, _Wanted(asset, timeframe, symbols, now, everything), work, outcome)
    return outcome


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The series of one asset to bring up to date at `now`; with `everything`, also those that are fresh.

    `code` is the edition of the user's own code that computes them. Series that it has failed for wait until their
    pause is over, also when they have new bars: it would fail again, and may take a minute for that.
    """

    asset: str
    timeframe: Timeframe
    symbols: Sequence[str]
    now: datetime
    everything: bool
    code: str | None = None


def _in_batches(database: Database, wanted: _Wanted, work: Callable[[list[str]], None], outcome: Outcome) -> None:
    """Do `work` for the pending series of `wanted`, a bounded number of rows at a time; quarantine failing series."""
    asset, timeframe, now, code = wanted.asset, wanted.timeframe, wanted.now, wanted.code
    began = time.monotonic()

    def process(batch: list[str]) -> None:
        errors = bisect(batch, work)
        if errors:
            # After a loop without an end, a pause that is counted from its beginning would be over.
            ended = now + timedelta(seconds=time.monotonic() - began)
            with database.transaction() as transaction:
                ledger.fail(transaction, asset, timeframe, errors, ended, code=code)
            outcome.errors.update(errors)

    def pending(symbols: Sequence[str]) -> pl.DataFrame:
        with database.transaction() as transaction:
            return ledger.pending(transaction, asset, timeframe, symbols, now, everything=wanted.everything, code=code)

    for batch in batches(pending(wanted.symbols), ROWS_A_BATCH):
        process(batch)
        if wanted.everything:
            retry_locked(batch, outcome, process, lambda symbols: pending(symbols)["symbol"].to_list())


def _closed(transaction: Transaction, timeframe: Timeframe, claimed: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """Return the closes of new bars at the end of the chain: bucket_end, series (how many series have one)."""
    moved = (
        claimed.join(seen.select("symbol", newest="last_ts"), on="symbol")
        .filter(pl.col("newest") > pl.col("last_ts"))
        .group_by("calendar", ts="newest")
        .agg(series=pl.len().cast(pl.Int64))
    )
    if moved.is_empty():
        return moved.select(bucket_end="ts", series="series")
    low, high = moved.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    around = reach(timeframe)
    trading = sessions.between(transaction, moved["calendar"].unique().to_list(), low - around, high + around)
    closed = buckets_of(moved, timeframe, trading).filter(pl.col("bucket_end").is_not_null())
    return closed.group_by("bucket_end").agg(pl.col("series").sum())


def refresh_rolled_up(
    database: Database, timeframe: Timeframe, symbols: Sequence[str], now: datetime, *, everything: bool = False
) -> Outcome:
    """Roll up and store the bars of `timeframe` whose source bars have changed and are complete.

    A series that cannot be rolled up does not affect the others, as in `refresh_computed`.
    """
    outcome = Outcome()

    def work(batch: list[str]) -> None:
        with database.transaction() as transaction:
            claimed = ledger.claim(transaction, OHLC, timeframe, batch, everything=everything)
            if claimed.is_empty():
                return
            starts = long_bars.starts(claimed)
            bars = tables.read_since(transaction, tables.BARS, timeframe.source, starts, tables.BARS.values)
            trading = sessions_of(transaction, claimed, bars, timeframe)
            closed, still_open = roll_up(
                bars.join(claimed.select("symbol", "calendar"), on="symbol", maintain_order="left"),
                timeframe,
                trading,
                claimed.select("symbol", "complete_through"),
            )
            rolled = long_bars.put_before(transaction, timeframe, claimed, bars, closed)
            owned = file_spans.owned(transaction, timeframe, claimed["symbol"])
            closed = without_owned(rolled, owned, timeframe)
            changes = long_bars.write(transaction, timeframe, claimed, closed)
            past = impact.revised(transaction, OHLC, timeframe, claimed, everything=everything)
            recomputed = impact.recomputed(past, closed, tables.BARS.time)
            results = (
                claimed.select("symbol", checked_through="complete_through")
                .join(changes.select("symbol", "changed_from"), on="symbol", how="left")
                .join(_seen(closed), on="symbol", how="left")
                .join(still_open.rename({"bucket": "dirty_from", "bucket_end": "dirty_end"}), on="symbol", how="left")
                .with_columns(pl.lit(None, UTC_TIME).alias(name) for name in ("asked_at", "final_through"))
            )
            ledger.complete(transaction, OHLC, timeframe, results, CODE_VERSION)
            impact.report(transaction, timeframe, recomputed)
        outcome.add_done(claimed["symbol"])
        outcome.reasons.update(why_claimed(claimed, CODE_VERSION, everything=everything))
        outcome.add_written(changes)
        outcome.recomputed += int(recomputed["recomputed"].sum())
        outcome.corrected += int(changes["corrected"].sum())

    _in_batches(database, _Wanted(OHLC, timeframe, symbols, now, everything), work, outcome)
    return outcome


def sessions_of(
    transaction: Transaction, claimed: pl.DataFrame, bars: pl.DataFrame, timeframe: Timeframe
) -> pl.DataFrame:
    """Return the sessions of `bars` on the calendars in `claimed`, and all sessions of the `timeframe` bars around."""
    low, high = bars.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    if low is None:
        low = high = ledger.BEGINNING
    around = reach(timeframe)
    return sessions.between(transaction, claimed["calendar"].unique().to_list(), low - around, high + around)
