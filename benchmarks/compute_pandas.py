"""All series at once by groups of pandas, with longer bars by a computed key or by `resample`: two of the ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compute_shared import COST, MINUTES, SPANS, Columns, Steps, Values

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
