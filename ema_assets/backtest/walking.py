"""Walk-forward: consecutive windows of time, and the choice of options with which each of them is traded."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.backtest.choices import option_column
from ema_assets.backtest.outcomes import WalkForward
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.schemas import UTC_TIME
from ema_assets.store.results import FEWEST_TRADES
from ema_assets.strategies import figures
from ema_assets.strategies.trade_columns import TRADE_SCHEMA

_LENGTH = re.compile(r"([1-9][0-9]{0,4})([dw])")


@dataclass(frozen=True, slots=True)
class Window:
    """The time from `start` to before `end`; None is no limit.

    Bars that open in it but are `not_closed` at its end (symbol, ts) are left out. With `leaves_nothing_open`, because
    other options may follow, a trade that is open at the end is closed there, at its costs.
    """

    start: datetime | None
    end: datetime | None
    not_closed: pl.DataFrame | None = None
    leaves_nothing_open: bool = False

    def of(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Return those of `bars` (symbol, ts, …) that are in the window."""
        limits = []
        if self.start is not None:
            limits.append(pl.col("ts") >= self.start)
        if self.end is not None:
            limits.append(pl.col("ts") < self.end)
        bars = bars.filter(*limits) if limits else bars
        if self.not_closed is None:
            return bars
        return bars.join(self.not_closed, on=["symbol", "ts"], how="anti", maintain_order="left")


def length(name: str, given: str | timedelta) -> timedelta:
    """Return the length of time that the argument `name` was `given` as.

    Raises:
        ConfigurationError: when it is not a positive timedelta or a text such as "180d" or "26w".
    """
    if isinstance(given, timedelta) and given > timedelta(0):
        return given
    found = _LENGTH.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise ConfigurationError(f'`{name}` must be a time such as "180d" or "26w", received {given!r}')
    return int(found[1]) * timedelta(days=1 if found[2] == "d" else 7)


def windows(
    bars: pl.DataFrame, whole: Window, bar: timedelta, train: timedelta, test: timedelta
) -> list[tuple[Window, Window]]:
    """Return consecutive pairs of a window to choose in and a window to trade in.

    `bars` (symbol, ts, ts_end) are those of the window `whole`, and no pair reaches beyond it. `bar` is the length of a
    bar. Only bars that have closed count for a choice: exchanges close at different times.

    Raises:
        ConfigurationError: when there is no bar after the first window to choose in.
    """
    first, last = bars["ts"].min(), bars["ts"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    if train > last - first:
        raise ConfigurationError(
            f"`train` must be shorter than the bars, which go from {first} to {last}, received {_said(train)}"
        )
    found, begin = [], first
    # The end of a window is exclusive, and the last window includes the last bar.
    stop = last + bar if whole.end is None else min(last + bar, whole.end)
    # A longer `test` could leave the range of datetime.
    test = min(test, stop - first)
    while begin + train <= last:
        middle = begin + train
        late = bars.filter(pl.col("ts") < middle, pl.col("ts_end") > middle).select("symbol", "ts")
        if whole.not_closed is not None:
            late = pl.concat([late, whole.not_closed])
        learned = Window(begin, middle, None if late.is_empty() else late)
        traded = Window(middle, min(middle + test, stop), whole.not_closed, leaves_nothing_open=middle + test <= last)
        found.append((learned, traded))
        begin += test
    return found


def _bounded(mean: float | None) -> float | None:
    """Return `mean`, or None when it has no bound, as `results.performance` has it."""
    return None if mean == float("inf") else mean


def _said(length: timedelta) -> str:
    return counted(length.days, "day") if length % timedelta(days=1) == timedelta(0) else str(length)


@dataclass(slots=True)
class Walk:
    """A walk over windows: choices of options are added one by one, and the best one per window is kept."""

    windows: Sequence[tuple[Window, Window]]
    by: str
    spans: Callable[[Window], pl.DataFrame]
    _best: list["_Best | None"] = field(init=False)
    _first: Mapping[str, Any] = field(init=False, default_factory=dict)
    _spans: list[tuple[pl.DataFrame, pl.DataFrame]] = field(init=False)

    def __post_init__(self) -> None:
        self._best = [None] * len(self.windows)
        self._spans = [(self.spans(train), self.spans(test)) for train, test in self.windows]

    def add(self, varied: Mapping[str, Any], cost: float, trades: Callable[[Window], pl.DataFrame]) -> None:
        """Take one choice of options into account; `trades` returns its trades in a window.

        `cost` is the cost per side of a trade, as a fraction of the traded value.
        """
        self._first = self._first or varied
        for number, (train, test) in enumerate(self.windows):
            symbols, mean = self._measured(trades(train), self._spans[number][0])
            if mean is None:
                continue
            best = self._best[number]
            # Of equal choices, the first one given is kept.
            if best is None or (symbols, mean) > (best.symbols, best.mean):
                self._best[number] = _Best(varied, cost, symbols, mean, trades(test))

    def _measured(self, trades: pl.DataFrame, spans: pl.DataFrame) -> tuple[int, float | None]:
        """Return how many symbols have the figure, and its mean: infinite if one has no bound, None for no symbol."""
        found = figures.figures(trades, spans, FEWEST_TRADES)
        known = found.select(figures.ranked_by(self.by).alias(self.by))[self.by].drop_nulls()
        mean = known.mean()
        assert mean is None or isinstance(mean, float)
        return len(known), mean

    def result(self, bars: pl.DataFrame) -> WalkForward:
        """Return what the best choices did on `bars` (symbol, ts, close, …)."""
        times = dict.fromkeys(("train_from", "test_from", "test_until"), UTC_TIME)
        means = dict.fromkeys((f"train_{self.by}", f"test_{self.by}"), pl.Float64())
        own = ("window", *times, *means)
        rows, traded = [], []
        for number, ((train, test), best) in enumerate(zip(self.windows, self._best, strict=True), start=1):
            chosen = dict.fromkeys(self._first) if best is None else best.varied
            tested = None
            if best is not None:
                _, tested = self._measured(best.trades, self._spans[number - 1][1])
                traded.append(best.trades.select(pl.lit(number, pl.Int64).alias("window"), pl.all()))
            rows.append(
                {
                    "window": number,
                    "train_from": train.start,
                    "test_from": test.start,
                    "test_until": test.end,
                    **{option_column(name, own): value for name, value in chosen.items()},
                    f"train_{self.by}": None if best is None else _bounded(best.mean),
                    f"test_{self.by}": _bounded(tested),
                }
            )
        trades = pl.concat(traded).sort("symbol", "entry_ts") if traded else _NO_TRADES
        last = self.windows[-1][1]
        whole = Window(self.windows[0][1].start, last.end, last.not_closed)
        return WalkForward(
            windows=pl.DataFrame(rows, schema_overrides={**times, **means}, infer_schema_length=None),
            trades=trades,
            performance=figures.figures(trades, self.spans(whole), FEWEST_TRADES),
            closes=self._closes(whole.of(bars)),
            costs={number: best.cost for number, best in enumerate(self._best, start=1) if best is not None},
        )

    def _closes(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Return symbol, ts, window and close of the `bars` of all test windows, sorted by symbol and ts."""
        begins = pl.DataFrame(
            {"window": range(1, len(self.windows) + 1), "test_from": [test.start for _, test in self.windows]},
            schema={"window": pl.Int64(), "test_from": UTC_TIME},
        )
        ends = bars.select("symbol", "ts", "close").sort("ts").join_asof(begins, left_on="ts", right_on="test_from")
        return ends.sort("symbol", "ts").select("symbol", "ts", "window", "close")


@dataclass(frozen=True, slots=True)
class _Best:
    """The best choice in a window so far: the number of symbols with a figure, the mean, and the trades afterwards."""

    varied: Mapping[str, Any]
    cost: float
    symbols: int
    mean: float
    trades: pl.DataFrame


_NO_TRADES = pl.DataFrame(schema={"window": pl.Int64(), "symbol": pl.String(), **TRADE_SCHEMA})
