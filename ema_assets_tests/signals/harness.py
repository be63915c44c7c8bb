"""Bars for the tests of signals, and a plain version of what the engine does around `compute`."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

import numpy as np
import polars as pl
from hypothesis import strategies as st

from ema_assets.model.schemas import KINDS, UTC_TIME
from ema_assets.signals.declaration import Params, Signal
from ema_assets.signals.discovery import discover
from ema_assets_tests.market.series import START, price_series, random_walk

SIGNALS = discover()
BARS_A_SESSION = 26
FIRST_OPEN = np.datetime64((START + timedelta(hours=14.5)).replace(tzinfo=None), "us")
PRICES = ("open", "high", "low", "close", "volume")


def bars_from(closes: list[float], seed: int, *, gaps: bool = True, quiet: float = 0.1) -> pl.DataFrame:
    """The bars of one symbol in ascending order. `quiet` is the share of bars without volume.

    The columns are ts, session, open, high, low, close and volume. Sessions open daily. With `gaps`, some bars are
    missing, and the first bar of a session may be one of them.
    """
    random = np.random.default_rng(seed)
    close = np.array(closes, dtype=np.float64)
    count = len(close)
    steps = np.cumsum(1 + (random.random(count) < 0.1) * random.integers(1, 9, count) * gaps)
    opened = np.concatenate([close[:1], close[:-1]]) * (1 + 0.002 * random.standard_normal(count).clip(-3, 3))
    days, bars = np.divmod(steps.astype(np.int64), BARS_A_SESSION)
    sessions = FIRST_OPEN + days * np.timedelta64(1, "D")
    return pl.DataFrame(
        {
            "ts": pl.Series(sessions + bars * np.timedelta64(15, "m")).dt.replace_time_zone("UTC"),
            "session": pl.Series(sessions).dt.replace_time_zone("UTC"),
            "open": opened,
            "high": np.maximum(opened, close) * (1 + 0.01 * random.random(count)),
            "low": np.minimum(opened, close) * (1 - 0.01 * random.random(count)),
            "close": close,
            "volume": np.where(random.random(count) < quiet, 0.0, random.integers(0, 5_000, count).astype(np.float64)),
        }
    )


def together(series: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The bars of several symbols in one frame, sorted by symbol and ts."""
    return pl.concat([bars.select(pl.lit(symbol).alias("symbol"), pl.all()) for symbol, bars in sorted(series.items())])


@st.composite
def histories(draw: st.DrawFn, most: int = 120) -> pl.DataFrame:
    """Bars of one to four symbols with different lengths. Some symbols may have no bars."""
    symbols = draw(st.lists(st.sampled_from(["AAPL", "BTC-USD", "BRK.B", "^GSPC"]), unique=True, min_size=1))
    quiet = st.sampled_from([0.0, 0.2, 1.0])
    return together(
        {
            symbol: bars_from(draw(price_series(most)), draw(st.integers(0, 2**32 - 1)), quiet=draw(quiet))
            for symbol in symbols
        }
    )


def walks(bars: int, symbols: int = 3) -> pl.DataFrame:
    """Random walks of `symbols` symbols, with the same bars in each call."""
    return together({f"S{n}": bars_from(random_walk(bars, seed=n), seed=n) for n in range(symbols)})


def variants(signal: Signal) -> Iterator[Params]:
    """The default parameters, then each parameter changed alone."""
    yield signal.defaults
    for name, param in signal.params.items():
        others: list[int | float | str] = [choice for choice in param.choices if choice != param.default]
        if not isinstance(param.default, str):
            others = [max(type(param.default)(param.default * 0.75), type(param.default)(param.least))]
        for other in others:
            params = {**signal.defaults, name: other}
            assert signal.check(params) is None, f"{signal.name}: {params}"
            yield params


def inputs_of(signal: Signal, bars: pl.DataFrame) -> pl.DataFrame:
    """The columns symbol, ts, session and what `signal` reads, with `_position` counted from 0 for each symbol."""
    found = bars.select("symbol", "ts", "session", *signal.reads.get("ohlc", ()))
    for asset, columns in signal.reads.items():
        if asset != "ohlc":
            upstream = SIGNALS[asset]
            rows = whole(upstream, upstream.defaults, inputs_of(upstream, bars))
            found = found.join(rows.select("symbol", "ts", *columns), on=["symbol", "ts"], maintain_order="left")
    return found.with_columns(pl.int_range(pl.len()).over("symbol").alias("_position"))


def nothing(signal: Signal) -> pl.DataFrame:
    """An empty frame of carried rows."""
    kinds = {column.name: KINDS[column.kind] for column in signal.columns}
    return pl.DataFrame(schema={"symbol": pl.String(), **{name: kinds[name] for name in signal.carries}})


def no_rows(signal: Signal) -> pl.DataFrame:
    """An empty frame of results."""
    kinds = {column.name: KINDS[column.kind] for column in signal.columns}
    return pl.DataFrame(schema={"symbol": pl.String(), "ts": UTC_TIME, **kinds})


def engine_inputs(signal: Signal, rows: pl.DataFrame) -> pl.DataFrame:
    """Only the columns that `compute` is promised."""
    dropped = ["_position"] if signal.has_sessions else ["_position", "session"]
    return rows.drop(dropped)


def whole(signal: Signal, params: Params, inputs: pl.DataFrame) -> pl.DataFrame:
    """All rows of `inputs` computed at once, without a carried state."""
    return signal.compute(engine_inputs(signal, inputs.with_columns(is_new=pl.lit(True))), nothing(signal), params)


def advanced(
    signal: Signal, params: Params, inputs: pl.DataFrame, stored: pl.DataFrame, starts: Mapping[str, int]
) -> pl.DataFrame:
    """`stored`, with the rows of each symbol in `starts` recomputed from that position on.

    The computation continues from the stored row before the position. If there is no such row, or if it lacks a value,
    the computation starts at the first bar of the symbol.
    """
    parts, carried, kept = [], [nothing(signal)], []
    for (symbol,), rows in inputs.partition_by("symbol", as_dict=True, maintain_order=True).items():
        mine = stored.filter(pl.col("symbol") == symbol)
        if symbol not in starts:
            kept.append(mine)
            continue
        start = starts[str(symbol)]
        if signal.carries and start:
            before = mine.slice(start - 1, 1).select("symbol", *signal.carries)
            assert before.height == 1
            if signal.carries_nulls or not before.null_count().sum_horizontal().item():
                carried.append(before)
            else:
                start = 0
        kept.append(mine.head(start))
        first = max(start - signal.bars_before(params), 0)
        parts.append(rows.filter(pl.col("_position") >= first).with_columns(is_new=pl.col("_position") >= start))
    if not parts:
        return stored
    bars = pl.concat(parts)
    found = signal.compute(engine_inputs(signal, bars), pl.concat(carried), params)
    return pl.concat([*kept, found.filter(bars["is_new"])]).sort("symbol", "ts")
