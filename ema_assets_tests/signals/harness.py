"""Bars for tests of signals, and what the engine does around `compute`, in the plainest way."""

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
    """ts, session, open, high, low, close, volume of one symbol, ascending; `quiet` is the share without volume.

    Sessions open daily; with `gaps`, bars are missing here and there, the first of a session among them.
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
    """Several symbols' bars in one frame, sorted by symbol and ts."""
    return pl.concat([bars.select(pl.lit(symbol).alias("symbol"), pl.all()) for symbol, bars in sorted(series.items())])


@st.composite
def histories(draw: st.DrawFn, most: int = 120) -> pl.DataFrame:
    """Bars of one to four symbols of different lengths, some of them without any."""
    symbols = draw(st.lists(st.sampled_from(["AAPL", "BTC-USD", "BRK.B", "^GSPC"]), unique=True, min_size=1))
    quiet = st.sampled_from([0.0, 0.2, 1.0])
    return together(
        {
            symbol: bars_from(draw(price_series(most)), draw(st.integers(0, 2**32 - 1)), quiet=draw(quiet))
            for symbol in symbols
        }
    )


def walks(bars: int, symbols: int = 3) -> pl.DataFrame:
    """The same bars each time: random walks of `symbols` symbols."""
    return together({f"S{n}": bars_from(random_walk(bars, seed=n), seed=n) for n in range(symbols)})


def variants(signal: Signal) -> Iterator[Params]:
    """The defaults, and each parameter changed by itself."""
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
    """symbol, ts, session and what `signal` reads, with `_position` from 0 for each symbol."""
    found = bars.select("symbol", "ts", "session", *signal.reads.get("ohlc", ()))
    for asset, columns in signal.reads.items():
        if asset != "ohlc":
            upstream = SIGNALS[asset]
            rows = whole(upstream, upstream.defaults, inputs_of(upstream, bars))
            found = found.join(rows.select("symbol", "ts", *columns), on=["symbol", "ts"], maintain_order="left")
    return found.with_columns(pl.int_range(pl.len()).over("symbol").alias("_position"))


def nothing(signal: Signal) -> pl.DataFrame:
    """A frame of carried rows without any."""
    kinds = {column.name: KINDS[column.kind] for column in signal.columns}
    return pl.DataFrame(schema={"symbol": pl.String(), **{name: kinds[name] for name in signal.carries}})


def no_rows(signal: Signal) -> pl.DataFrame:
    """A frame of results without any."""
    kinds = {column.name: KINDS[column.kind] for column in signal.columns}
    return pl.DataFrame(schema={"symbol": pl.String(), "ts": UTC_TIME, **kinds})


def engine_inputs(signal: Signal, rows: pl.DataFrame) -> pl.DataFrame:
    """The columns that `compute` is promised, and no other."""
    dropped = ["_position"] if signal.has_sessions else ["_position", "session"]
    return rows.drop(dropped)


def whole(signal: Signal, params: Params, inputs: pl.DataFrame) -> pl.DataFrame:
    """All of `inputs` computed at once, from nothing."""
    return signal.compute(engine_inputs(signal, inputs.with_columns(is_new=pl.lit(True))), nothing(signal), params)


def advanced(
    signal: Signal, params: Params, inputs: pl.DataFrame, stored: pl.DataFrame, starts: Mapping[str, int]
) -> pl.DataFrame:
    """`stored` with the rows of each symbol in `starts` replaced from that position on, by what `inputs` has from there.

    Goes on from the stored row before; where there is none, or it lacks a value, from the symbol's first bar.
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
