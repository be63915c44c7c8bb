"""`load` and `History`: what is in memory of some symbols, and the three ways to try strategies on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.arguments import Time, symbols_of, utc
from ema_assets.backtest import walking
from ema_assets.backtest.choices import Choice, several, single
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

# A frame of one row takes 45 kB, a row of a large one 0.3 kB.
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
    """The stored bars of `symbols` (None: all) on `timeframe`, to try strategies on.

    From `start` to before `end`, UTC: averages begin at the first bar. `adjust` is that of `read.bars`; with `all`,
    dividends are no losses. The database is that of `url`, or the one that the settings name.

    Raises:
        ConfigurationError: for a symbol or timeframe that there never was, a time that is none, or no bars at all.
        StoreUnavailable: when the database cannot be reached.
    """
    adjustment.check_adjustment(adjust)
    frame, chosen = parse_timeframe(timeframe), symbols_of(symbols)
    return History(Market(frame, chosen, utc("start", start), utc("end", end), adjust, url))


class History:
    """Bars of some symbols on one timeframe. Made by `load`.

    The options of every method are keys of a `[[strategy]]` row. One that is not given, or None, has the default of a
    row. Rules and signals of your own, and the parameters of signals, are those of EMA_HOME.

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
        """Bars that look suspicious, such as by a split not adjusted for: symbol, ts, reason, detail; sorted.

        In the prices as they are stored, whatever `adjust` says.
        """
        return self._market.flags

    def run(self, rule: str, *, start: Time | None = None, end: Time | None = None, **options: Any) -> Backtest:
        """What `rule` with these options would have done from `start` to `end` (None: with all bars).

        With the bars that open from `start` on and have closed at `end`. Averages know the bars before `start`, the
        strategy does not: it begins without a trade. A trade that is open at the end is marked to the last close.
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
        """`run` with every choice of one value for each option that has several: one row per choice and symbol.

        Columns: the options that are varied, symbol, and those of `results.performance` behind timeframe. In the order
        of the values given, then of symbols. Choices that do not fit together are left out, such as a fast span above
        the slow one. An option that is called as one of the figures, such as `bars`, is the column `bars_option`.
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
        """Options that are chosen again and again by what was known then, and what they did afterwards.

        The choice with the highest mean of the figure `by` over all symbols in a time as long as `train` trades in the
        following time, as long as `test`. A trade that is open then is closed, for other options may follow. Then both
        move on by `test`. Times are such as "180d" or "26w". The last test ends with the bars, sooner than others if
        need be, and its open trade is marked to the last close. Where a symbol has no such figure, choices of which
        more symbols have one come first.

        Raises:
            ConfigurationError: also when the bars are not longer than `train`.
        """
        if by not in figures.MORE_IS_BETTER:
            raise not_one_of("by", str(by), figures.MORE_IS_BETTER)
        lengths = walking.length("train", train), walking.length("test", test)
        whole = self._window(start, end)
        closing = self._market.placed(whole.of(self.bars), self._market.timeframe).select("symbol", "ts", "ts_end")
        windows = walking.windows(closing, self._market.timeframe.duration, *lengths)
        configured = _Configured()
        walk = walking.Walk(windows, by, self._spans)
        for each in _traded(self._market, several(rule, options, configured.rules), configured):
            walk.add(each.choice.varied, each.choice.variant.cost, each.trades)
        return walk.result(self.bars)

    def _window(self, start: Time | None, end: Time | None) -> walking.Window:
        last = utc("end", end)
        window = walking.Window(utc("start", start), last, None if last is None else self._not_closed(last))
        if window.of(self.bars).is_empty():
            first, last = self.bars.select(first=pl.col("ts").min(), last=pl.col("ts").max()).row(0)
            raise ConfigurationError(
                f"there are no bars from `start` to `end`, received {start!r} and {end!r}; the loaded ones go from "
                f"{first} to {last}"
            )
        return window

    def _not_closed(self, end: datetime) -> pl.DataFrame | None:
        """The bars that open before `end` and have not closed then: symbol, ts; None when there are none."""
        timeframe = self._market.timeframe
        longest = timeframe.duration + timedelta(days=1)
        # Added to the bars, since there may be no time so long before `end`.
        near = self.bars.filter(pl.col("ts") < end, pl.col("ts") + longest > end)
        late = self._market.placed(near, timeframe).filter(pl.col("ts_end") > end).select("symbol", "ts")
        return None if late.is_empty() else late

    def _spans(self, window: walking.Window) -> pl.DataFrame:
        return figures.spans(window.of(self.bars), self._market.bars_per_year)


class _Configured:
    """What the configuration says now, read once per call: files of a user's own may have changed since the last."""

    def __init__(self) -> None:
        settings = Settings.from_env()
        self.signals_folder = settings.signals_folder
        self.watchlist = graph.watchlist_of(settings)
        # A mistake in the watchlist is told as one, before anything is tried.
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
        """Its trades in `window`, at whose beginning there is none."""
        return self.computed.trades(
            self.choice.variant.name,
            self.timeframe,
            window.of(self.bars),
            leaves_nothing_open=window.leaves_nothing_open,
        )


def _traded(market: Market, choices: Sequence[Choice], configured: _Configured) -> Iterator[_Traded]:
    """Each of `choices` in turn. What one of them reads is computed once, and dropped after the last that reads it."""
    for higher in {each.variant.higher_timeframe for each in choices}:
        if higher is not None and market.timeframe < higher:
            listed = [each.symbol for each in configured.watchlist.instruments if higher in each.timeframes]
            market.check_trends(higher, listed)
    # Nobody is told of a backtest, it may read signals that are switched off, and its symbols are those of the market.
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
    """What `name` reads, directly or not, but for bars."""
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
    """The values of the options that are varied, as columns; none is called as one of the `others`."""
    names = {name: f"{name}_option" if name in others else name for name in varied}
    return [
        pl.lit(value, pl.Int64 if type(value) is int else None).alias(names[name]) for name, value in varied.items()
    ]
