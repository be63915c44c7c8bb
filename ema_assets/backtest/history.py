"""`load` and `History`: bars of some symbols in memory, and the three ways to try strategies on them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.arguments import Time, check_process, symbols_of, utc
from ema_assets.backtest import walking
from ema_assets.backtest.choices import Choice, option_column, several, single
from ema_assets.backtest.loaded import Market
from ema_assets.backtest.outcomes import Backtest, WalkForward
from ema_assets.config.settings import Settings
from ema_assets.market import adjustment
from ema_assets.model.asset_names import OHLC
from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.model.symbols import parse_timeframe
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh import graph
from ema_assets.reports.in_memory import InMemory
from ema_assets.store.results import FEWEST_TRADES
from ema_assets.strategies import figures
from ema_assets.strategies.rule_discovery import discover

# A frame with one row takes 45 kB, a row of a large frame 0.3 kB: frames are merged when there are this many.
_MANY_FRAMES = 256


def load(
    timeframe: str,
    symbols: Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    adjust: str = adjustment.SPLITS,
    url: str | None = None,
) -> "History":
    """Load the stored bars of `symbols` (None: all) on `timeframe`, to try strategies on.

    From `start` to before `end`, UTC: averages begin at the first bar. `adjust` is as in `read.bars`; with `all`,
    dividends do not count as losses. The database is the one at `url`, or that of the settings.

    Raises:
        ConfigurationError: for a symbol or timeframe that never existed, an invalid time, or when there are no bars.
        StoreUnavailable: when the database cannot be reached.
    """
    adjustment.check_adjustment(adjust)
    frame, chosen = parse_timeframe(timeframe), symbols_of(symbols)
    return History(Market(frame, chosen, utc("start", start), utc("end", end), adjust, url))


class History:
    """Bars of some symbols on one timeframe. Made by `load`.

    The options of every method are keys of a `[[strategy]]` row. An option that is missing or None has the default of
    a row. Your own rules and signals, and the parameters of signals, are read from EMA_HOME.

    Every method raises ConfigurationError for an unknown rule or option and for a value that is not allowed.
    """

    def __init__(self, market: Market) -> None:
        self._market = market

    def __repr__(self) -> str:
        bars = self.bars
        return f"History({self._market.timeframe.key!r}, {bars['symbol'].n_unique()} symbols, {bars.height} bars)"

    @property
    def bars(self) -> pl.DataFrame:
        """The bars: symbol, ts, open, high, low, close, volume; sorted by symbol and ts."""
        return self._market.bars(self._market.timeframe)

    @property
    def flagged(self) -> pl.DataFrame:
        """Suspicious bars, such as after a split without adjustment: symbol, ts, reason, detail; sorted.

        They refer to the prices as stored, whatever `adjust` says.
        """
        return self._market.flags

    def run(self, rule: str, *, start: Time | None = None, end: Time | None = None, **options: Any) -> Backtest:
        """Return what `rule` with these options would have done from `start` to `end` (None: with all bars).

        It uses the bars that open from `start` on and have closed at `end`. Averages include the bars before `start`,
        but the strategy begins without a trade. A trade that is open at the end is marked to the last close.
        """
        window = self._window(start, end)
        configured = _Configured()
        (each,) = _traded(self._market, [single(rule, options, configured.rules)], configured)
        trades, closes = each.trades(window), window.of(self.bars)
        return Backtest(
            rule=rule,
            options=dict(options),
            trades=trades,
            performance=figures.figures(trades, self._spans(window), FEWEST_TRADES),
            closes=closes.select("symbol", "ts", "close"),
            cost=each.choice.variant.cost,
        )

    def sweep(self, rule: str, *, start: Time | None = None, end: Time | None = None, **options: Any) -> pl.DataFrame:
        """Return the figures of `run` for every combination of the options that have several values.

        One row per combination and symbol. Columns: the varied options, symbol, and those of `results.performance`
        after timeframe. Sorted in the order of the values given, then by symbol. Combinations that do not fit together
        are left out, such as a fast span above the slow one. An option with the name of a figure, such as `bars`, is
        the column `bars_option`.
        """
        window = self._window(start, end)
        spans, configured = self._spans(window), _Configured()
        found = []
        for each in _traded(self._market, several(rule, options, configured.rules), configured):
            rows = figures.figures(each.trades(window), spans, FEWEST_TRADES)
            found.append(rows.select(*_varied_columns(each.choice.varied, rows.columns), pl.all()))
            if len(found) == _MANY_FRAMES:
                found = [pl.concat(found, how="vertical_relaxed", rechunk=True)]
        return pl.concat(found, how="vertical_relaxed")

    def walk_forward(
        self,
        rule: str,
        *,
        train: str | timedelta,
        test: str | timedelta,
        by: str = "total_return_pct",
        start: Time | None = None,
        end: Time | None = None,
        **options: Any,
    ) -> WalkForward:
        """Choose options repeatedly by what was known at the time, and return what they did afterwards.

        The choice with the highest mean of the figure `by` over all symbols in a window of length `train` is traded in
        the following window of length `test`. A trade that is open at its end is closed, because other options may
        follow. Then both windows move on by `test`. Lengths are such as "180d" or "26w". The last test window ends with
        the bars, even if that is early, and its open trade is marked to the last close. If symbols lack the figure,
        choices that have it for more symbols come first. `start` and `end` are as in `run`.
        An option with the name of a column of `windows`, such as `window`, is the column `window_option`.

        Raises:
            ConfigurationError: also when the bars are not longer than `train`.
        """
        if by not in figures.MORE_IS_BETTER:
            raise not_one_of("by", str(by), figures.MORE_IS_BETTER)
        lengths = walking.length("train", train), walking.length("test", test)
        whole = self._window(start, end)
        closing = self._market.placed(whole.of(self.bars), self._market.timeframe).select("symbol", "ts", "ts_end")
        windows = walking.windows(closing, whole, self._market.timeframe.duration, *lengths)
        configured = _Configured()
        walk = walking.Walk(windows, by, self._spans)
        for each in _traded(self._market, several(rule, options, configured.rules), configured):
            walk.add(each.choice.varied, each.choice.variant.cost, each.trades)
        return walk.result(self.bars)

    def _window(self, start: Time | None, end: Time | None) -> walking.Window:
        check_process()
        last = utc("end", end)
        window = walking.Window(utc("start", start), last, None if last is None else self._not_closed(last))
        if window.of(self.bars).is_empty():
            first, last = self.bars.select(first=pl.col("ts").min(), last=pl.col("ts").max()).row(0)
            given = {"`start`": start, "`end`": end}
            received = " and ".join(f"{name} {str(value)!r}" for name, value in given.items() if value is not None)
            raise ConfigurationError(
                f"there are no bars with {received}; the loaded ones go from {first:%Y-%m-%d %H:%M} to "
                f"{last:%Y-%m-%d %H:%M} UTC"
            )
        return window

    def _not_closed(self, end: datetime) -> pl.DataFrame | None:
        """Return the bars that open before `end` and have not closed by then: symbol, ts; None when there are none."""
        timeframe = self._market.timeframe
        longest = timeframe.duration + timedelta(days=1)
        # Added to the bars, because subtracting it from an early `end` could leave the range of datetime.
        near = self.bars.filter(pl.col("ts") < end, pl.col("ts") + longest > end)
        late = self._market.placed(near, timeframe).filter(pl.col("ts_end") > end).select("symbol", "ts")
        return None if late.is_empty() else late

    def _spans(self, window: walking.Window) -> pl.DataFrame:
        return figures.spans(window.of(self.bars), self._market.bars_per_year)


class _Configured:
    """The current configuration, read once per call because the user's files may have changed since the last call."""

    def __init__(self) -> None:
        settings = Settings.from_env()
        self.signals_folder = settings.signals_folder
        self.watchlist = graph.watchlist_of(settings)
        # A mistake in the watchlist is reported as such, before anything is tried.
        graph.build(self.watchlist, settings.signals_folder, settings.strategies_folder)
        self.rules = discover(settings.strategies_folder)


@dataclass(frozen=True, slots=True)
class _Traded:
    """One choice of options, ready to be simulated on any window."""

    choice: Choice
    timeframe: Timeframe
    computed: InMemory
    bars: pl.DataFrame

    def trades(self, window: walking.Window) -> pl.DataFrame:
        """Return its trades in `window`, which begins without a trade."""
        return self.computed.trades(
            self.choice.variant.name,
            self.timeframe,
            window.of(self.bars),
            leaves_nothing_open=window.leaves_nothing_open,
        )


def _traded(market: Market, choices: Sequence[Choice], configured: _Configured) -> Iterator[_Traded]:
    """Yield each of `choices`, ready to be simulated. Inputs are computed once and dropped after their last reader."""
    for higher in {each.variant.higher_timeframe for each in choices}:
        if higher is not None and market.timeframe < higher:
            listed = [each.symbol for each in configured.watchlist.instruments if higher in each.timeframes]
            market.check_trends(higher, listed)
    # A backtest sends no alerts, may read signals that are switched off, and has the symbols of `market`.
    watched = replace(
        configured.watchlist, instruments=(), strategies=(), signals_off=(), alerts=None, where="backtest"
    )
    built = graph.build_with(watched, [each.variant for each in choices], configured.signals_folder)
    reads = [_reads(built, each.variant.name) for each in choices]
    last = {name: number for number, names in enumerate(reads) for name in names}
    computed = InMemory(built, market.bars, market.placed)
    for number, each in enumerate(choices):
        bars = computed.traded_bars(each.variant.name, market.timeframe)
        yield _Traded(each, market.timeframe, computed, bars)
        computed.forget([name for name in reads[number] if last[name] == number])


def _reads(built: graph.Graph, name: str) -> set[str]:
    """Return the assets that `name` reads directly or indirectly, except bars."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        node = built.nodes[waiting.pop()]
        more = {each for each in node.reads if each != OHLC} - found
        if node.variant is not None and node.variant.higher_timeframe is not None:
            more.add(node.variant.trend)
        found |= more
        waiting += more
    return found


def _varied_columns(varied: Mapping[str, Any], others: Sequence[str]) -> list[pl.Expr]:
    """Return the values of the varied options as columns; a name that is among `others` gets the suffix `_option`."""
    return [
        pl.lit(value, pl.Int64 if type(value) is int else None).alias(option_column(name, others))
        for name, value in varied.items()
    ]
