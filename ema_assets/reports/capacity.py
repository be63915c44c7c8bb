"""The cost of a watchlist, estimated from measured slopes. Arithmetic only; each figure names its source.

Nothing here was measured above 10,000 symbols: beyond that, the figures are extrapolated.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.timeframes import Timeframe

MOST_SYMBOLS = 100_000

# benchmarks/README.md, "By a standby process": 0.25 CPU s for 100 symbols, 0.61 for 1,000, without PostgreSQL. A run
# takes 1,000 series at most.
SERIES_PER_RUN = 1_000
CPU_SECONDS_PER_SERIES = (0.61 - 0.25) / 900
CPU_SECONDS_PER_RUN = 0.25 - 100 * CPU_SECONDS_PER_SERIES
# The same page: for 100 symbols, 0.55 CPU s with 12 assets, 0.28 with the chain of 4.
EVERYTHING_TO_CHAIN = 2.0
ASSETS_OF_CHAIN, ASSETS_OF_EVERYTHING = 4, 12
# The same page and docs/OPERATIONS.md: memory of a process after runs of 1,000 series, with its kernels.
MEGABYTES_PER_PROCESS = 300
# "benchmarks.growth", days 7 to 28, 15 trading days: 70 to 198 MB in `market` for 100 symbols on six timeframes, four
# assets; 90 are stocks, with 127 bars per day on six timeframes, and 10 pairs, with 463.
MARKET_BYTES_PER_BAR = 128e6 / 15 / (90 * 127 + 10 * 463)
# docs/CAPACITY.md: for the same bars, 19.3 MB for the chain, 54.6 for everything.
MARKET_EVERYTHING_TO_CHAIN = 54.6 / 19.3
# "benchmarks.growth" again: 140 MB in `dagster` per trading day for the chain, 383 MB for everything.
DAGSTER_BYTES_PER_BAR = 140e6 / (90 * 127 + 10 * 463)
DAGSTER_EVERYTHING_TO_CHAIN = 383 / 140
# Its run over a month, at 165 MB per day: level at 2,571 MB when runs are kept for 14 days, including the space that
# PostgreSQL keeps free.
DAGSTER_LEVEL_TO_DAY = 2_571 / 165
# "benchmarks.budget": 5 calls for 1,000 stocks.
SYMBOLS_PER_CALL = 200

# Trading minutes per day of a US exchange, and of a market that never closes.
SESSION_MINUTES, ALWAYS_MINUTES = 390, 1_440


@dataclass(frozen=True, slots=True)
class Market:
    """Symbols with the same trading hours: their number, and how many bars per timeframe close on a trading day."""

    symbols: int
    closes: Mapping[Timeframe, int]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a trading day. CPU times are those of runs, without PostgreSQL, Dagster's daemon and its UI.

    Attributes:
        series: symbols times timeframes.
        bars_per_day: new bars of all series.
        runs_per_day: one per close and timeframe, more above 1,000 symbols.
        cpu_seconds_per_tick: of one 5m close, or of the shortest timeframe.
        cpu_seconds_at_the_worst_close: when all timeframes within a session close together.
        cpu_hours_per_day: of all runs.
        memory_megabytes: of four standby processes.
        market_megabytes_per_day: what bars and results add; they are never deleted.
        dagster_megabytes: size at which Dagster's records level off, at 14 days of retention.
        calls_per_tick: to a provider that answers for 200 symbols per call.
    """

    series: int
    bars_per_day: int
    runs_per_day: int
    cpu_seconds_per_tick: float
    cpu_seconds_at_the_worst_close: float
    cpu_hours_per_day: float
    memory_megabytes: int
    market_megabytes_per_day: float
    dagster_megabytes: float
    calls_per_tick: int


def closes_per_day(timeframe: Timeframe, *, is_always_open: bool) -> int:
    """Return how many bars of `timeframe` close on a trading day; 1 for a day and longer."""
    if timeframe.is_session or timeframe.period is not None:
        return 1
    return ceil((ALWAYS_MINUTES if is_always_open else SESSION_MINUTES) / timeframe.minutes)


def estimate(
    symbols: int, timeframes: Iterable[Timeframe], *, is_everything: bool = False, is_always_open: bool = False
) -> Estimate:
    """Return the cost of `symbols` on `timeframes`, with the chain from bars to trades or every signal and strategy.

    Raises:
        ConfigurationError: when there are no symbols, or more than MOST_SYMBOLS.
    """
    closes = {each: closes_per_day(each, is_always_open=is_always_open) for each in timeframes}
    return estimate_markets([Market(symbols, closes)], ASSETS_OF_EVERYTHING if is_everything else ASSETS_OF_CHAIN)


def estimate_markets(markets: Sequence[Market], assets: int) -> Estimate:
    """Return the cost of the symbols of `markets` with this number of `assets`, interpolated from those of 4 and 12.

    Raises:
        ConfigurationError: when there are no symbols, or more than MOST_SYMBOLS.
    """
    symbols = sum(market.symbols for market in markets)
    if not 1 <= symbols <= MOST_SYMBOLS:
        raise ConfigurationError(f"`symbols` must be from 1 to {MOST_SYMBOLS:,}, received {symbols}")
    share = (assets - ASSETS_OF_CHAIN) / (ASSETS_OF_EVERYTHING - ASSETS_OF_CHAIN)
    cpu_factor, market_factor, dagster_factor = (
        1 + (factor - 1) * share
        for factor in (EVERYTHING_TO_CHAIN, MARKET_EVERYTHING_TO_CHAIN, DAGSTER_EVERYTHING_TO_CHAIN)
    )
    timeframes = {timeframe for market in markets for timeframe in market.closes}
    # Markets that are open at the same time share their runs.
    runs = sum(
        max(market.closes.get(each, 0) for market in markets)
        * ceil(sum(market.symbols for market in markets if each in market.closes) / SERIES_PER_RUN)
        for each in timeframes
    )
    bars = sum(market.symbols * sum(market.closes.values()) for market in markets)
    tick = (ceil(symbols / SERIES_PER_RUN) * CPU_SECONDS_PER_RUN + symbols * CPU_SECONDS_PER_SERIES) * cpu_factor
    return Estimate(
        series=sum(market.symbols * len(market.closes) for market in markets),
        bars_per_day=bars,
        runs_per_day=runs,
        cpu_seconds_per_tick=tick,
        cpu_seconds_at_the_worst_close=tick * max(sum(not each.is_session for each in timeframes), 1),
        cpu_hours_per_day=(runs * CPU_SECONDS_PER_RUN + bars * CPU_SECONDS_PER_SERIES) * cpu_factor / 3600,
        memory_megabytes=4 * MEGABYTES_PER_PROCESS,
        market_megabytes_per_day=bars * MARKET_BYTES_PER_BAR * market_factor / 1e6,
        dagster_megabytes=bars * DAGSTER_BYTES_PER_BAR * dagster_factor * DAGSTER_LEVEL_TO_DAY / 1e6,
        calls_per_tick=ceil(symbols / SYMBOLS_PER_CALL),
    )
