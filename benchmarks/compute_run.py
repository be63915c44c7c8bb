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
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import replace  # noqa: E402
from datetime import date, timedelta  # noqa: E402
from itertools import pairwise  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

Columns = dict[str, Any]
Values = dict[str, Columns]

# Minutes of a bar per timeframe, for the ways that do not know ema_assets.
MINUTES = {"5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240}
SPANS = (9, 30)
PRICES = ("open", "high", "low", "close", "volume")
NEVER = np.iinfo(np.int64).min
TOLERANCE = 1e-9
# Costs of a trade per side, in basis points: with none, the net return would be the return.
COST_BPS = 2.0
COST = COST_BPS / 10_000
# What is 1 in columns that end like this and are shares of it.
WHOLES = {"pct": 100.0, "drawdown": 1.0}
# The last sessions of this year contain a clock change and two sessions that close early.
LAST_DAY = date(2025, 12, 31)
SEED = 930


class Steps:
    """Wall seconds of each step over all batches, and CPU seconds of all steps together."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("rollup", "ema", "trend", "trades"), 0.0)
        self.cpu_s = 0.0

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        cpu, began = time.process_time(), time.perf_counter()
        yield
        self.seconds[step] += time.perf_counter() - began
        self.cpu_s += time.process_time() - cpu


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


# --- TA-Lib in a loop -------------------------------------------------------------------------------------------------


def talib_loop(folder: Path) -> Callable[[int, Steps], Values]:
    """One series after another: TA-Lib for the EMAs, numpy for everything else."""
    import talib

    opens = np.load(folder / "opens.npy")

    def roll_up(bars: Columns, session_open: Any, minutes: int) -> Columns:
        step = minutes * 60_000_000
        bucket = session_open + (bars["ts"] - session_open) // step * step
        edges = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))
        return {
            "ts": bucket[edges],
            "open": bars["open"][edges],
            "high": np.maximum.reduceat(bars["high"], edges),
            "low": np.minimum.reduceat(bars["low"], edges),
            "close": bars["close"][np.append(edges[1:], len(bucket)) - 1],
            "volume": np.add.reduceat(bars["volume"], edges),
        }

    def last_place(marked: Any, position: Any) -> Any:
        """For each bar, the position of the last marked bar up to it; -1 before the first."""
        return np.maximum.accumulate(np.where(marked, position, -1))

    def trend_of(fast: Any, slow: Any) -> Columns:
        position = np.arange(len(fast))
        spread = fast - slow
        sign = np.where(spread > 0, 1, np.where(spread < 0, -1, 0))
        last = last_place(sign != 0, position)
        trend = np.where(last >= 0, sign[last], 0)
        before = np.concatenate([[0], trend[:-1]])
        crossover = np.where((before != 0) & (trend != before), trend, 0)
        last_cross = last_place(crossover != 0, position)
        return {
            "trend": trend,
            "crossover": crossover,
            "spread_pct": spread / slow * 100,
            "bars_since_cross": np.where(last_cross >= 0, position - last_cross, -1),
        }

    def trades_of(symbol: int, bars: Columns, crossover: Any) -> Columns:
        ts, close = bars["ts"], bars["close"]
        entry = np.flatnonzero(crossover == 1)
        leaving = np.flatnonzero(crossover == -1)
        nth = np.searchsorted(leaving, entry)
        is_open = nth == len(leaving)
        leave = np.append(leaving, len(close) - 1)[nth]
        growth = close[leave] / close[entry]
        costs = COST + np.where(is_open, 0.0, COST * growth)
        return {
            "trade_symbol": np.full(len(entry), symbol),
            "entry_ts": ts[entry],
            "exit_ts": np.where(is_open, NEVER, ts[leave]),
            "last_ts": ts[leave],
            "entry_price": close[entry],
            "exit_price": np.where(is_open, np.nan, close[leave]),
            "last_price": close[leave],
            "return_pct": (growth - 1) * 100,
            "net_return_pct": (growth - 1 - costs) * 100,
            **_paths_by_numpy(bars, entry, leave, costs),
            "bars_held": leave - entry,
            "is_open": is_open,
        }

    def compute(number: int, step: Steps) -> Values:
        with np.load(folder / f"bars-{number}.npz") as file:
            batch = dict(file)
        first, begins = batch.pop("first"), batch.pop("begins")
        parts: dict[str, list[Columns]] = {timeframe: [] for timeframe in MINUTES}
        for at, (begin, end) in enumerate(pairwise(begins)):
            bars = {name: column[begin:end] for name, column in batch.items()}
            with step("rollup"):
                session_open = opens[np.searchsorted(opens, bars["ts"], side="right") - 1]
            for timeframe, minutes in MINUTES.items():
                with step("rollup"):
                    rolled = bars if timeframe == "5m" else roll_up(bars, session_open, minutes)
                with step("ema"):
                    fast, slow = (talib.EMA(rolled["close"], span) for span in SPANS)
                with step("trend"):
                    trend = trend_of(fast, slow)
                with step("trades"):
                    symbol = first + at
                    trades = trades_of(symbol, rolled, trend["crossover"])
                symbols = np.full(len(fast), symbol)
                parts[timeframe].append({"symbol": symbols, **rolled, "ema_9": fast, "ema_30": slow, **trend, **trades})
        return {
            timeframe: {name: np.concatenate([part[name] for part in found]) for name in found[0]}
            for timeframe, found in parts.items()
        }

    return compute


def _paths_by_numpy(bars: Columns, entry: Any, leave: Any, costs: Any) -> Columns:
    """Excursions and drawdown of trades, all of them at once: the bars of a trade are a stretch of their own."""
    if not len(entry):
        return dict.fromkeys(("mae_pct", "mfe_pct", "drawdown"), np.empty(0))
    high, low, close = bars["high"], bars["low"], bars["close"]
    held = leave + 1 - entry
    begins = np.cumsum(held) - held
    rows = np.arange(held.sum()) + np.repeat(entry - begins, held)
    highs, lows, closes, price = high[rows], low[rows], close[rows], close[entry]
    # Of the bar of the entry only its close lies within the trade.
    highs[begins] = lows[begins] = price
    equity = closes / np.repeat(price, held) - COST
    equity[begins + held - 1] -= costs - COST
    # The peaks of all trades in one pass: each trade is lifted above all earlier ones, and put down again.
    lift = np.repeat(np.arange(len(entry)) * (equity.max() - equity.min()), held)
    peak = np.maximum.accumulate(equity + lift) - lift
    return {
        "mae_pct": (np.minimum.reduceat(lows, begins) / price - 1) * 100,
        "mfe_pct": (np.maximum.reduceat(highs, begins) / price - 1) * 100,
        "drawdown": np.maximum.reduceat(1 - equity / peak, begins),
    }


# --- pandas -----------------------------------------------------------------------------------------------------------


_AGGREGATES = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def _by_resample(bars: Any, minutes: int) -> Any:
    local = bars.set_index(bars["ts"].dt.tz_convert("America/New_York").dt.tz_localize(None))
    rolled = (
        local.groupby("symbol")
        .resample(f"{minutes}min", origin="start_day", offset="9h30min")
        .agg(_AGGREGATES)
        # Nights and weekends.
        .dropna(subset="close")
        .reset_index()
    )
    rolled["ts"] = rolled["ts"].dt.tz_localize("America/New_York").dt.tz_convert("UTC")
    return rolled


def _by_key(bars: Any, session_open: Any, minutes: int) -> Any:
    length = np.timedelta64(minutes, "m")
    bucket = session_open + (bars["ts"] - session_open) // length * length
    return bars.assign(ts=bucket).groupby(["symbol", "ts"], sort=False).agg(_AGGREGATES).reset_index()


def _add_ema(bars: Any) -> Any:
    close = bars["close"].groupby(bars["symbol"])
    number = close.cumcount() + 1
    running = close.cumsum()
    for span in SPANS:
        seeded = bars["close"].where(number > span, (running / span).where(number == span))
        averages = seeded.groupby(bars["symbol"]).ewm(span=span, adjust=False).mean()
        bars[f"ema_{span}"] = averages.to_numpy()
    return bars


def _add_trend(bars: Any) -> Any:
    symbol = bars["symbol"]
    spread = bars["ema_9"] - bars["ema_30"]
    trend = np.sign(spread).where(spread != 0).groupby(symbol).ffill()
    before = trend.groupby(symbol).shift()
    crossed = before.notna() & (trend != before)
    position = bars.groupby("symbol").cumcount()
    return bars.assign(
        trend=trend.fillna(0).astype("int64"),
        crossover=trend.where(crossed, 0).astype("int64"),
        spread_pct=spread / bars["ema_30"] * 100,
        bars_since_cross=(position - position.where(crossed).groupby(symbol).ffill()).fillna(-1).astype("int64"),
    )


def _trades_of(bars: Any) -> Any:
    import pandas as pd

    numbered = bars.assign(number=bars.groupby("symbol").cumcount())
    columns = ["symbol", "ts", "close", "number"]
    events = numbered.loc[numbered["crossover"] != 0, [*columns, "crossover"]]
    after = events.groupby("symbol")[["ts", "close", "number"]].shift(-1)
    events = events.assign(exit_ts=after["ts"], exit_price=after["close"], exit_number=after["number"])
    entries = events[events["crossover"] == 1]
    last = numbered.groupby("symbol")[["ts", "close", "number"]].last().loc[entries["symbol"]].set_index(entries.index)
    last_price = entries["exit_price"].fillna(last["close"])
    bars_held = entries["exit_number"].fillna(last["number"]).astype("int64") - entries["number"]
    growth = last_price / entries["close"]
    costs = COST + (COST * growth).where(entries["exit_ts"].notna(), 0.0)
    return pd.DataFrame(
        {
            "trade_symbol": entries["symbol"],
            "entry_ts": entries["ts"],
            "exit_ts": entries["exit_ts"],
            "last_ts": entries["exit_ts"].fillna(last["ts"]),
            "entry_price": entries["close"],
            "exit_price": entries["exit_price"],
            "last_price": last_price,
            "return_pct": (growth - 1) * 100,
            "net_return_pct": (growth - 1 - costs) * 100,
            **_paths_by_pandas(bars, entries.index.to_numpy(), bars_held.to_numpy() + 1, costs.to_numpy()),
            "bars_held": bars_held,
            "is_open": entries["exit_ts"].isna(),
        }
    )


def _paths_by_pandas(bars: Any, entry: Any, held: Any, costs: Any) -> Columns:
    """Excursions and drawdown of trades, of each of which `bars` has `held` rows from row `entry` on."""
    begins = np.cumsum(held) - held
    rows = np.arange(held.sum()) + np.repeat(entry - begins, held)
    inside = bars[["high", "low", "close"]].take(rows).reset_index(drop=True)
    trade = np.repeat(np.arange(len(entry)), held)
    price = bars["close"].to_numpy()[entry]
    # Of the bar of the entry only its close lies within the trade.
    inside.loc[begins, "high"] = inside.loc[begins, "low"] = price
    equity = inside["close"] / price[trade] - COST
    equity[begins + held - 1] -= costs - COST
    fall = 1 - equity / equity.groupby(trade).cummax()
    return {
        "mae_pct": (inside["low"].groupby(trade).min().to_numpy() / price - 1) * 100,
        "mfe_pct": (inside["high"].groupby(trade).max().to_numpy() / price - 1) * 100,
        "drawdown": fall.groupby(trade).max().to_numpy(),
    }


def pandas_groups(folder: Path, *, resample: bool) -> Callable[[int, Steps], Any]:
    """All series of a batch at once with groupby: ewm for the EMAs, shift for trend and trades.

    Bars are rolled up by `groupby().resample()`, in New York time so that the anchor is the open all year; or by a
    computed key of buckets, which is the next step after a look at a profile.
    """
    import pandas as pd

    opens = np.load(folder / "opens.npy")

    def compute(number: int, step: Steps) -> dict[str, tuple[Any, Any]]:
        with np.load(folder / f"bars-{number}.npz") as file:
            batch = dict(file)
        first, counts = batch.pop("first"), np.diff(batch.pop("begins"))
        ts = batch.pop("ts")
        bars = pd.DataFrame(
            {
                "symbol": first + np.repeat(np.arange(len(counts)), counts),
                "ts": pd.to_datetime(ts, unit="us", utc=True).as_unit("us"),
                **batch,
            }
        )
        with step("rollup"):
            places = np.searchsorted(opens, ts, side="right") - 1
            session_open = pd.Series(pd.to_datetime(opens[places], unit="us", utc=True).as_unit("us"))
        found = {}
        for timeframe, minutes in MINUTES.items():
            with step("rollup"):
                if timeframe == "5m":
                    rolled = bars.copy()
                else:
                    rolled = _by_resample(bars, minutes) if resample else _by_key(bars, session_open, minutes)
            with step("ema"):
                rolled = _add_ema(rolled)
            with step("trend"):
                rolled = _add_trend(rolled)
            with step("trades"):
                trades = _trades_of(rolled)
            found[timeframe] = (rolled, trades)
        return found

    return compute


def plain_pandas(found: dict[str, tuple[Any, Any]]) -> Values:
    """The values of `pandas_groups` in the form that all ways share."""

    def plain(column: Any) -> Any:
        return column.dt.as_unit("us").astype("int64").to_numpy() if column.name.endswith("ts") else column.to_numpy()

    return {
        timeframe: {str(name): plain(frame[name]) for frame in frames for name in frame}
        for timeframe, frames in found.items()
    }


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
