"""The processes of `benchmarks.compute`: make the bars, compute them in one way, compare two ways. Not run by hand.

A way is a function from one batch of 5m bars to the values of each timeframe: columns by name, sorted by symbol and
time, in a plain form that all ways share. Times are microseconds since 1970, a missing time is NEVER, a missing price
is NaN, a trend is 1 or -1, and 0 where there is none. Each way reads its input in the form that suits it best, before
the clock starts. It imports no library of the others, so the peak memory of its process is its own.
"""

from benchmarks.measure import Cost

cost = Cost()

import json  # noqa: E402 - the cost counts from before the imports
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from datetime import date, timedelta  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks.compute_loop import talib_loop  # noqa: E402
from benchmarks.compute_pandas import pandas_groups, plain_pandas  # noqa: E402
from benchmarks.compute_shared import COST_BPS, MINUTES, NEVER, PRICES, TOLERANCE, WHOLES, Columns, Steps, Values  # noqa: E402

# The last sessions of this year contain a clock change and two sessions that close early.
LAST_DAY = date(2025, 12, 31)
SEED = 930


# --- input ------------------------------------------------------------------------------------------------------------


def make(folder: Path, series: int, sessions: int, batch_rows: int | None) -> dict[str, Any]:
    """Write bars of the sandbox's market, one file per batch and form, in batches of the product's size."""
    import polars as pl

    from ema_assets.market.exchanges import exchange_sessions
    from ema_assets.model.schemas import UTC_TIME
    from ema_assets.model.symbols import DEFAULT_CALENDAR, Instrument
    from ema_assets.refresh.compute import ROWS_A_BATCH
    from ema_assets.refresh.outcome import batches
    from ema_assets.sandbox.market import Market
    from ema_assets_tests.timeframes import M5

    # A year has 252 sessions; twice as many days and a fortnight are always enough.
    trading = exchange_sessions(DEFAULT_CALENDAR, LAST_DAY - timedelta(days=2 * sessions + 14), LAST_DAY).tail(sessions)
    trading.write_parquet(folder / "sessions.parquet")
    opens, closes = (trading[name].dt.epoch("us").to_numpy() for name in ("open", "close"))
    np.save(folder / "opens.npy", opens)
    np.save(folder / "closes.npy", closes)
    names = [f"S{number:05}" for number in range(series)]
    market = Market([Instrument(name) for name in names], SEED)
    since, last = int(opens[0]) // 1_000_000, int(closes[-1]) // 1_000_000
    bars_a_series = len(market.bars(Instrument(names[0]), M5.minutes, since, last, last, sys.maxsize))
    estimates = pl.DataFrame({"symbol": names}).with_columns(rows=pl.lit(bars_a_series))
    parts = list(batches(estimates, batch_rows or ROWS_A_BATCH))
    for number, part in enumerate(parts):
        found = {name: market.bars(Instrument(name), M5.minutes, since, last, last, sys.maxsize) for name in part}
        begins = np.cumsum([0, *(len(bars) for bars in found.values())])
        columns = {name: np.concatenate([getattr(bars, name) for bars in found.values()]) for name in ("ts", *PRICES)}
        columns["ts"] = columns["ts"] * 1_000_000
        symbols = pl.Series(list(found), dtype=pl.String).gather(np.repeat(np.arange(len(part)), np.diff(begins)))
        pl.DataFrame(
            {
                "symbol": symbols,
                "ts": pl.Series(columns["ts"]).cast(UTC_TIME),
                **{name: columns[name] for name in PRICES},
                "calendar": pl.repeat(DEFAULT_CALENDAR, len(symbols), eager=True),
            }
        ).write_parquet(folder / f"bars-{number}.parquet")
        first = np.int64(part[0].removeprefix("S"))
        np.savez(folder / f"bars-{number}.npz", first=first, begins=begins, **columns)  # type: ignore[arg-type]
    return {"batches": len(parts), "bars": series * bars_a_series}


# --- ema-assets -------------------------------------------------------------------------------------------------------


def product(folder: Path) -> Callable[[int, Steps], Any]:
    """The functions of `market`, `signals` and `strategies` as a refresh calls them, without a database in between."""
    import polars as pl

    from ema_assets.market.rollups import roll_up
    from ema_assets.refresh.compute import side_by_side
    from ema_assets.signals.ema_signals import FAST, SLOW, ema_signals
    from ema_assets.signals.ema_trend import ema_trend
    from ema_assets.strategies.rule_discovery import discover
    from ema_assets.strategies.simulator.simulation import simulate
    from ema_assets.strategies.trade_columns import STATE_SCHEMA
    from ema_assets.strategies.watchlist_rows import built_in
    from ema_assets_tests.timeframes import M5, ROLLED_UP

    sessions = pl.read_parquet(folder / "sessions.parquet")
    end = sessions["close"][-1]
    symbol = pl.String()
    no_signals = pl.DataFrame(
        schema={"symbol": symbol, FAST: pl.Float64(), SLOW: pl.Float64(), "bar_number": pl.Int64()}
    )
    no_trend = pl.DataFrame(schema={"symbol": symbol, "trend": pl.String(), "bars_since_cross": pl.Int64()})
    variant = replace(built_in(discover())["crossover"], cost_bps=COST_BPS)
    no_trades = pl.DataFrame(schema={"symbol": symbol, **STATE_SCHEMA})

    def compute(number: int, step: Steps) -> dict[str, tuple[Any, ...]]:
        bars = pl.read_parquet(folder / f"bars-{number}.parquet").rechunk()
        complete = bars.select(pl.col("symbol").unique(maintain_order=True)).with_columns(
            pl.lit(end).alias("complete_through")
        )
        found = {}
        for timeframe in (M5, *ROLLED_UP):
            with step("rollup"):
                rolled = bars if timeframe is M5 else roll_up(bars, timeframe, sessions, complete)[0]
            with step("ema"):
                signals = ema_signals(rolled.select("symbol", "ts", "close"), no_signals)
            with step("trend"):
                trend = ema_trend(signals, no_trend)
            with step("trades"):
                prices = rolled.select("symbol", "ts", "open", "high", "low", "close")
                joined = side_by_side([prices, trend.select("symbol", "ts", "crossover", "spread_pct", "bar_number")])
                trades = simulate(joined, no_trades, variant).trades
            found[timeframe.key] = (rolled, signals, trend, trades)
        return found

    return compute


def plain_product(found: dict[str, tuple[Any, ...]]) -> Values:
    """The values of `product` in the form that all ways share."""
    import polars as pl

    from ema_assets.model.symbols import BEARISH, BULLISH, DOWN, UP
    from ema_assets.strategies.trade_columns import OPEN

    def number(column: str) -> pl.Expr:
        return pl.col(column).str.slice(1).cast(pl.Int64)

    def sign(column: str, plus: str, minus: str) -> pl.Expr:
        return pl.col(column).replace_strict({plus: 1, minus: -1}, default=0, return_dtype=pl.Int64)

    def times(*columns: str) -> pl.Expr:
        return pl.col(*columns).dt.epoch("us").fill_null(NEVER)

    values = {}
    for timeframe, (bars, signals, trend, trades) in found.items():
        frames = [
            bars.select(number("symbol"), times("ts"), *PRICES),
            signals.select("ema_9", "ema_30"),
            trend.select(
                sign("trend", UP, DOWN),
                sign("crossover", BULLISH, BEARISH),
                "spread_pct",
                pl.col("bars_since_cross").fill_null(-1),
            ),
            trades.select(
                number("symbol").alias("trade_symbol"),
                times("entry_ts", "exit_ts", "last_ts"),
                "entry_price",
                "exit_price",
                "last_price",
                "return_pct",
                "net_return_pct",
                "mae_pct",
                "mfe_pct",
                "drawdown",
                "bars_held",
                (pl.col("status") == OPEN).alias("is_open"),
            ),
        ]
        values[timeframe] = {
            column.name: (column.fill_null(np.nan) if column.dtype.is_float() else column).to_numpy()
            for frame in frames
            for column in frame
        }
    return values


# --- running and comparing --------------------------------------------------------------------------------------------


def _as_it_is(found: Values) -> Values:
    return found


WAYS: dict[str, tuple[Callable[[Path], Callable[[int, Steps], Any]], Callable[[Any], Values]]] = {
    "ema-assets": (product, plain_product),
    "TA-Lib loop": (talib_loop, _as_it_is),
    "pandas": (lambda folder: pandas_groups(folder, resample=False), plain_pandas),
    "pandas resample": (lambda folder: pandas_groups(folder, resample=True), plain_pandas),
}


def run(folder: Path, way: str, batches: int) -> dict[str, Any]:
    """Compute every batch. The clock stands still while the values are written for the comparison."""
    prepare, plain = WAYS[way]
    compute = prepare(folder)
    # Once without the clock: threads start, and libraries load parts of themselves at their first use.
    compute(0, Steps())
    steps = Steps()
    rows = 0
    # Before results are converted to the shared form. No batch is larger than the first.
    peak_mb = cost.report()["peak_mb"]
    for number in range(batches):
        values = plain(compute(number, steps))
        rows += sum(len(columns["ts"]) for columns in values.values())
        for timeframe, columns in values.items():
            np.savez(folder / f"{way}-{number}-{timeframe}.npz", **columns)
    return {
        "steps_s": {name: round(seconds, 4) for name, seconds in steps.seconds.items()},
        "wall_s": round(sum(steps.seconds.values()), 4),
        "cpu_s": round(steps.cpu_s, 4),
        "rows": rows,
        "peak_mb": round(peak_mb, 1),
    }


def worst_difference(ours: Columns, theirs: Columns, where: str) -> float:
    """The largest relative difference between the numbers of two ways; times, counts and signs must be the same.

    Percentages and drawdowns are differences themselves, so their difference is relative to the whole (100 %, or 1).

    Raises:
        SystemExit: when anything differs by more than TOLERANCE.
    """
    if set(ours) != set(theirs):
        raise SystemExit(f"{where}: the columns differ: {sorted(set(ours) ^ set(theirs))}")
    worst = 0.0
    for name, mine in ours.items():
        other = theirs[name]
        if len(mine) != len(other):
            raise SystemExit(f"{where}, {name}: {len(mine)} rows against {len(other)}")
        if mine.dtype.kind != "f":
            differs, difference = mine != other, np.zeros(len(mine))
        else:
            whole = WHOLES.get(name.rpartition("_")[2])
            scale = np.maximum(np.abs(mine), np.abs(other)) if whole is None else np.full(len(mine), whole)
            difference = np.abs(mine - other) / scale
            # NaN stands for no value and equals only NaN.
            differs = (np.isnan(mine) != np.isnan(other)) | (difference > TOLERANCE)
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            raise SystemExit(
                f"{where}, {name}: {int(differs.sum())} of {len(mine)} values differ, first in row {row}: "
                f"{mine[row]!r} against {other[row]!r}"
            )
        worst = max(worst, float(np.nanmax(difference, initial=0.0)))
    return worst


def compare(folder: Path, batches: int, ways: list[str]) -> dict[str, float]:
    """For each way, the worst difference from ema-assets over all batches and timeframes."""
    found = dict.fromkeys(ways, 0.0)
    for number in range(batches):
        for timeframe in MINUTES:
            with np.load(folder / f"ema-assets-{number}-{timeframe}.npz") as file:
                ours = dict(file)
            for way in ways:
                with np.load(folder / f"{way}-{number}-{timeframe}.npz") as file:
                    difference = worst_difference(ours, dict(file), f"{way}, batch {number}, {timeframe}")
                found[way] = max(found[way], difference)
    return found


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    task = {"make": make, "run": run, "compare": compare}[given.pop("task")]
    print(json.dumps(task(Path(given.pop("folder")), **given)))  # type: ignore[operator]
