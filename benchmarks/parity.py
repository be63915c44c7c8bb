"""After how many bars do two EMAs of the same closes agree that were begun differently? Figures for docs/SIGNALS.md.

    python -m benchmarks.parity [FILE …] [--symbol AAPL --timeframe 1d] [--json]

FILES are CSV or Parquet, as `ema-assets ingest` takes them. Without any, the market of the sandbox is measured. Each
series is cut into windows of 500 bars, spread evenly over it. In each window three averages are compared:

    mean      begins with the mean of the first n closes of the window: ema_assets.signals.ema_signals, TA-Lib
    first     begins with the first close of the window: polars and pandas `ewm(adjust=False)`
    long      begins with the series: a chart that knows more history

Two averages agree from the bar on, counted from the first of the window, where their relative difference stays below
1e-6.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import read as read_file
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.market.repair import repair
from ema_assets.market.rollups import roll_up
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.sandbox.market import DAY_MINUTES, Market
from ema_assets.signals.ema_signals import CONVERGED_AFTER_BARS, SLOW, SLOW_SPAN, SPANS, ema_signals
from ema_assets.signals.ema_trend import ema_trend
from ema_assets_tests.timeframes import D1, H1, H4, M5

AGREED = 1e-6
WINDOW_BARS = 500
MOST_WINDOWS = 50

_SEED = 930
_END = datetime(2026, 1, 1, tzinfo=UTC)
_INSTRUMENTS = (
    Instrument("AAPL"),
    Instrument("NVDA"),
    Instrument("KO"),
    Instrument("BTC-USD", ALWAYS_OPEN),
    Instrument("DOGE-USD", ALWAYS_OPEN),
)
_YEARS_OF_5M, _YEARS_OF_1D = 4, 20

_NO_STATE = pl.DataFrame(
    schema={"symbol": pl.String(), **{f"ema_{span}": pl.Float64() for span in SPANS}, "bar_number": pl.Int64()}
)
_NO_TREND = pl.DataFrame(schema={"symbol": pl.String(), "trend": pl.String(), "bars_since_cross": pl.Int64()})


@dataclass(frozen=True)
class Agreement:
    """From which bar of a window on two averages agree: the median and the worst window.

    `at_converged` is the worst relative difference of the slow averages from bar CONVERGED_AFTER_BARS on.
    `crossover_differs_until` is the last bar of any window at which only one of the two has a crossover; 0 for none.
    Bars at which only one of the two has a value yet do not count.
    """

    median: dict[str, float]
    worst: dict[str, int]
    at_converged: float
    crossover_differs_until: int


@dataclass(frozen=True)
class Parity:
    """One series. `long` is None when no window begins 500 bars into it.

    `talib` and `pandas` are the worst relative differences from what these libraries compute over the whole series.
    """

    series: str
    bars: int
    windows: int
    first: Agreement
    long: Agreement | None
    talib: float | None
    pandas: float


def sandbox_bars() -> pl.DataFrame:
    """symbol, timeframe, ts, close of five instruments on 5m, 1h, 4h (four years) and 1d (twenty)."""
    end = int(_END.timestamp())
    market = Market(_INSTRUMENTS, _SEED)
    parts = []
    for each in _INSTRUMENTS:
        start = int((_END - timedelta(days=365 * _YEARS_OF_5M)).timestamp())
        fine = _frame(market, each, M5, start, end)
        sessions = exchange_sessions(each.calendar, date(_END.year - _YEARS_OF_5M - 1, 12, 1), _END.date())
        complete = pl.DataFrame({"symbol": [each.symbol], "complete_through": [_END]}).cast(
            {"complete_through": fine.schema["ts"]}
        )
        parts.append(fine)
        parts += [
            roll_up(fine.with_columns(calendar=pl.lit(each.calendar)), timeframe, sessions, complete)[0]
            for timeframe in (H1, H4)
        ]
        start = int((_END - timedelta(days=365 * _YEARS_OF_1D)).timestamp())
        parts.append(_frame(market, each, D1, start, end))
    columns = ("symbol", "timeframe", "ts", "close")
    return pl.concat([part.select(columns) for part in parts])


def _frame(market: Market, instrument: Instrument, timeframe: Timeframe, start: int, end: int) -> pl.DataFrame:
    minutes = DAY_MINUTES if timeframe is D1 else timeframe.minutes
    bars = market.bars(instrument, minutes, start, end, end, 10**9)
    values = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    return pl.DataFrame({"ts": bars.ts * 1_000_000, **values}).select(
        pl.lit(instrument.symbol).alias("symbol"),
        pl.lit(timeframe.key).alias("timeframe"),
        pl.col("ts").cast(BAR_SCHEMA["ts"]),
        *values,
    )


def _first(closes: pl.DataFrame) -> pl.DataFrame:
    """As `ema_signals`, but with the first close as the first value, so that every bar has one."""
    return closes.with_columns(
        *(pl.col("close").ewm_mean(span=n, adjust=False).over("symbol").alias(f"ema_{n}") for n in SPANS),
        bar_number=pl.int_range(1, pl.len() + 1).over("symbol"),
    ).drop("close")


def _agreement(one: pl.DataFrame, other: pl.DataFrame) -> Agreement:
    """Compare two frames of signals over the same windows; the column `symbol` has the names of the windows."""
    keys = ["symbol", "ts"]
    pairs = one.join(other.drop("bar_number"), on=keys, how="inner", maintain_order="left", suffix="_other")
    median, worst = {}, {}
    for span in SPANS:
        name = f"ema_{span}"
        differs = (pl.col(name) / pl.col(f"{name}_other") - 1).abs() >= AGREED
        agreed = pairs.group_by("symbol").agg(
            # When they agree at once, it is the first bar that both have.
            pl.max_horizontal(pl.col("bar_number").filter(differs).max() + 1, pl.lit(span)).alias("bar")
        )["bar"]
        median[name] = float(agreed.median() or span)  # type: ignore[arg-type]
        worst[name] = int(agreed.max() or span)  # type: ignore[arg-type]
    converged = pairs.filter(pl.col("bar_number") >= CONVERGED_AFTER_BARS)
    at_converged = converged.select((pl.col(SLOW) / pl.col(f"{SLOW}_other") - 1).abs().max()).item()
    crossings = [
        ema_trend(each.select(*keys, *(f"ema_{n}" for n in SPANS), "bar_number"), _NO_TREND).select(
            *keys, "bar_number", "crossover"
        )
        for each in (one, other)
    ]
    both = crossings[0].join(crossings[1], on=keys, suffix="_other")
    # The first bar of the slow EMA begins a trend, which is no crossover on either side.
    unlike = both.filter(pl.col("bar_number") > SLOW_SPAN, pl.col("crossover").ne_missing(pl.col("crossover_other")))[
        "bar_number"
    ]
    return Agreement(median, worst, float(at_converged), int(unlike.max() or 0))  # type: ignore[arg-type]


def measure(name: str, bars: pl.DataFrame) -> Parity:
    """Compare the ways to begin an average, over windows of one series (ts, close; ascending)."""
    closes = bars.select(pl.lit("").alias("symbol"), "ts", "close")
    last_start = max(bars.height - WINDOW_BARS, 0)
    starts = np.unique(np.linspace(0, last_start, min(MOST_WINDOWS, last_start + 1)).astype(int)).tolist()
    windows = pl.concat(
        [closes.slice(start, WINDOW_BARS).with_columns(pl.lit(f"{start:08}").alias("symbol")) for start in starts]
    )
    mean, first = ema_signals(windows, _NO_STATE), _first(windows)
    whole = ema_signals(closes, _NO_STATE)
    # Only windows that begin where the long history has forgotten its own beginning.
    late = mean.filter(pl.col("symbol").cast(pl.Int64) >= WINDOW_BARS)
    long = late.select("symbol", "ts", "bar_number").join(
        whole.drop("symbol", "bar_number"), on="ts", how="left", maintain_order="left"
    )
    return Parity(
        series=name,
        bars=bars.height,
        windows=len(starts),
        first=_agreement(mean, first),
        long=None if late.is_empty() else _agreement(late, long),
        talib=_against_talib(closes, whole),
        pandas=_against_pandas(closes),
    )


def _worst(found: pl.DataFrame, expected: dict[str, np.ndarray]) -> float:
    differences = [
        np.nanmax(np.abs(found[name].fill_null(np.nan).to_numpy() / values - 1), initial=0.0)
        for name, values in expected.items()
    ]
    return float(max(differences))


def _against_talib(closes: pl.DataFrame, whole: pl.DataFrame) -> float | None:
    try:
        import talib
    except ImportError:
        return None
    return _worst(whole, {f"ema_{span}": talib.EMA(closes["close"].to_numpy(), span) for span in SPANS})


def _against_pandas(closes: pl.DataFrame) -> float:
    import pandas as pd

    series = pd.Series(closes["close"].to_numpy())
    return _worst(
        _first(closes), {f"ema_{span}": series.ewm(span=span, adjust=False).mean().to_numpy() for span in SPANS}
    )


def read(paths: list[Path], symbol: str | None, timeframe: str | None) -> pl.DataFrame:
    """Valid bars of all files, sorted within each series."""
    options = ReadOptions(symbol=symbol, timeframe=timeframe)
    parts = [read_file(path, options).as_utc().with_columns(allow_negative=pl.lit(False)) for path in paths]
    series = [each for part in parts for each in part.partition_by("timeframe", maintain_order=True)]
    return pl.concat([repair(each).sound.select(list(BAR_SCHEMA)) for each in series]).sort(
        "symbol", "timeframe", "ts", maintain_order=True
    )


def _print(found: list[Parity]) -> None:
    print(f"Relative difference below {AGREED:.0e} from this bar on: median of the windows, worst window")
    spans = "".join(f"{f'span {n}':>12}" for n in SPANS)
    print(f"{'':<32}{'mean, first':^42}  {'mean, long':^42}")
    head = f"{spans}{f'at {CONVERGED_AFTER_BARS}':>9}{'crossing':>9}"
    print(f"{'series':<16}{'bars':>8}{'windows':>8}{head}  {head}{'TA-Lib':>9}{'pandas':>8}")
    for each in found:
        print(
            f"{each.series:<16}{each.bars:>8}{each.windows:>8}{_columns(each.first)}  {_columns(each.long)}"
            f"{'-' if each.talib is None else f'{each.talib:.0e}':>9}{each.pandas:>8.0e}"
        )
    print("crossing: the last bar at which only one of the two has a crossover. TA-Lib, pandas: relative difference")


def _columns(agreement: Agreement | None) -> str:
    if agreement is None:
        return f"{'-':>12}" * len(SPANS) + f"{'-':>9}" * 2
    figures = "".join(
        f"{agreement.median[name]:>7.0f}{agreement.worst[name]:>5}" for name in (f"ema_{span}" for span in SPANS)
    )
    return f"{figures}{agreement.at_converged:>9.0e}{agreement.crossover_differs_until:>9}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="CSV or Parquet, as `ema-assets ingest`")
    parser.add_argument("--symbol", help="symbol of a file that has no symbol column")
    parser.add_argument("--timeframe", help="timeframe of a file that has no timeframe column")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    given = parser.parse_args()
    bars = read(given.files, given.symbol, given.timeframe) if given.files else sandbox_bars()
    found = []
    for (symbol, timeframe), series in bars.partition_by(
        "symbol", "timeframe", as_dict=True, maintain_order=True
    ).items():
        name = f"{symbol}|{timeframe}"
        if series.height < WINDOW_BARS:
            print(f"{name}: left out, because it has {series.height} bars of at least {WINDOW_BARS}", file=sys.stderr)
            continue
        found.append(measure(name, series))
    if not found:
        raise SystemExit(f"no series has {WINDOW_BARS} bars")
    if given.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
    else:
        _print(found)


if __name__ == "__main__":
    main()
