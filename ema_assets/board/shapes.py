"""The answers of the JSON API, field by field: answers have exactly these fields, which OpenAPI lists. No values.

Times are UTC; those of charts and equity curves are seconds since 1970.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict


class Paging(TypedDict):
    """Where a page of rows is: pages count from 1, `total` is the rows on all of them."""

    page: int
    per_page: int
    pages: int
    total: int


class WatchedSymbol(TypedDict):
    """A symbol, the group that it is in, and the timeframes on which something is computed, shortest first."""

    symbol: str
    group: str | None
    timeframes: list[str]


class Symbols(Paging):
    """A page of symbols."""

    rows: list[WatchedSymbol]


class Cell(TypedDict):
    """A series on the heat map: its newest bar and what follows from it; null where there is no trend yet."""

    timeframe: str
    condition: str
    ts: datetime | None
    close: float | None
    trend: str | None
    spread_pct: float | None
    bars_since_cross: int | None
    cross_price: float | None
    cross_distance_pct: float | None
    alignment: int | None
    is_warming_up: bool | None


class MapRow(TypedDict):
    """A symbol on the heat map: `alignment` is timeframes up minus timeframes down; `cells` has one per timeframe."""

    symbol: str
    alignment: int | None
    cells: list[Cell | None]


class Breadth(TypedDict):
    """How many symbols are up, down, without a trend and not fresh on a timeframe."""

    up: int
    down: int
    none: int
    not_fresh: int


class HeatMapPage(Paging):
    """A page of the heat map; `breadth` counts the symbols on all pages, by timeframe."""

    timeframes: list[str]
    breadth: dict[str, Breadth]
    rows: list[MapRow]


class NearCross(TypedDict):
    """A series that is about to cross: at which next close, and how far that is from the last one."""

    symbol: str
    timeframe: str
    trend: str
    close: float
    cross_price: float
    cross_distance_pct: float
    spread_pct: float | None
    bars_since_cross: int | None


class NearCrosses(Paging):
    """A page of series that are about to cross."""

    rows: list[NearCross]


class Crossing(TypedDict):
    """A crossover and the close of its bar."""

    symbol: str
    timeframe: str
    ts: datetime
    crossover: str
    spread_pct: float | None
    close: float | None


class Crossings(TypedDict):
    """A page of crossovers. They are not counted: `has_more` says whether there is another page."""

    page: int
    per_page: int
    has_more: bool
    rows: list[Crossing]


class OpenTrade(TypedDict):
    """An open trade, marked to the newest bar; `condition` is how fresh its series is."""

    strategy: str
    symbol: str
    timeframe: str
    side: str
    entry_ts: datetime
    entry_price: float
    last_ts: datetime
    last_price: float
    return_pct: float | None
    bars_held: int
    stop_price: float | None
    stop_now: float | None
    target_price: float | None
    r_multiple: float | None
    stop_distance_pct: float | None
    condition: str | None


class OpenTrades(Paging):
    """A page of open trades; how many of all win, lose and have no stop."""

    winning: int
    losing: int
    without_stop: int
    rows: list[OpenTrade]


class Performance(TypedDict):
    """The figures of a series; null where they are not defined. `has_no_loss`: the profit factor has no bound."""

    symbol: str
    timeframe: str
    trades: int
    open_trades: int
    win_rate_pct: float | None
    profit_factor: float | None
    expectancy_pct: float | None
    total_return_pct: float | None
    annualized_return_pct: float | None
    buy_and_hold_pct: float | None
    max_drawdown_pct: float | None
    sharpe: float | None
    sortino: float | None
    exposure_pct: float | None
    costs_pct: float | None
    best_trade_pct: float | None
    worst_trade_pct: float | None
    average_bars_held: float | None
    first_ts: datetime | None
    last_ts: datetime | None
    remark: str | None
    has_no_loss: bool


class Performances(Paging):
    """A page of the figures of a strategy on a timeframe, and when they were added up."""

    strategy: str
    timeframe: str | None
    refreshed_at: datetime | None
    rows: list[Performance]


class EquityCurve(TypedDict):
    """Equity as a multiple of the start, and how far it is below its highest before; one value of each per time.

    `symbols` is how many were chosen, null where none were.
    """

    strategy: str
    timeframe: str
    symbols: int | None
    series: int
    left_out: Sequence[str]
    weighting: str
    trades_closed: int
    trades_open: int
    total_return_pct: float | None
    max_drawdown_pct: float
    time: list[int]
    equity: list[float]
    drawdown_pct: list[float]


class DrawnLine(TypedDict):
    """A column of a signal, one value per bar: over the bars or in a pane below; `unit` is `percent` or null."""

    signal: str
    column: str
    on_price: bool
    unit: str | None
    values: list[float | None]


class DrawnTrade(TypedDict):
    """A trade that reaches into the bars."""

    entry_ts: int
    side: str
    entry_price: float
    entry_reason: str | None
    exit_ts: int | None
    exit_price: float | None
    exit_reason: str | None
    last_ts: int
    last_price: float
    return_pct: float | None
    net_return_pct: float | None
    bars_held: int
    stop_price: float | None
    stop_now: float | None
    target_price: float | None
    status: str


class DrawnSeries(TypedDict):
    """The newest bars of a series, column by column; `is_whole` is false where there are older ones."""

    symbol: str
    timeframe: str
    is_whole: bool
    time: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float | None]
    averages: list[str]
    fast: list[float | None]
    slow: list[float | None]
    lines: list[DrawnLine]
    strategy: str | None
    trades: list[DrawnTrade]


class ChainLink(TypedDict):
    """An asset of a series; `dagster` is the address of its partition in the UI, where one is known."""

    asset: str
    last_ts: datetime | None
    revision: int
    computed_at: datetime | None
    failures: int
    last_error: str | None
    is_dirty: bool
    dagster: str | None


class WhyNot(TypedDict):
    """Why a series is fresh or not, in sentences; `base` is the timeframe that its bars are rolled up from."""

    series: str
    symbol: str
    timeframe: str
    condition: str
    is_fine: bool
    headline: str
    reasons: Sequence[str]
    advice: Sequence[str]
    story: Sequence[str]
    base: str | None
    chain: list[ChainLink]


class Trusted(TypedDict):
    """Whether the numbers can be trusted now: counts, and a sentence for each trouble."""

    verdict: str
    series: int
    fine: int
    symbols: int
    conditions: dict[str, int]
    last_work: datetime | None
    gaps: int
    missing_bars: int
    corrections: int
    rows_recomputed: int
    crossovers_flipped: int
    trades_flipped: int
    failures: list[str]
    not_answering: Sequence[str]
    silent_symbols: Sequence[str]
    is_synthetic: bool
    configuration_error: str | None
    sync_error: str | None
    reads_as_role: bool


class NotFresh(TypedDict):
    """A series of one condition, and what is known about it."""

    symbol: str
    timeframe: str
    condition: str
    meaning: str
    since: datetime | None
    last_ts: datetime | None
    checked_through: datetime | None
    failures: int
    next_attempt_at: datetime | None
    last_error: str | None
    missing_bars: int | None
    missing_from: datetime | None


class NotFreshPage(Paging):
    """A page of series that are not fresh."""

    rows: list[NotFresh]


class Correction(TypedDict):
    """A change of the past of a series, and how far it reached."""

    symbol: str
    timeframe: str
    kind: str
    changed_from: datetime
    bars_corrected: int
    rows_recomputed: int
    crossovers_flipped: int
    trades_flipped: int
    source: str
    revised_at: datetime


class Corrections(Paging):
    """A page of corrections."""

    rows: list[Correction]


class Gap(TypedDict):
    """Bars that are missing and are requested again."""

    symbol: str
    timeframe: str
    first_ts: datetime
    last_ts: datetime
    bars: int
    asked: int
    next_attempt_at: datetime | None


class Gaps(Paging):
    """A page of gaps."""

    rows: list[Gap]


class Latency(TypedDict):
    """The time from a close to its strategy row, on one timeframe."""

    timeframe: str
    closes: int
    series: int
    p50_seconds: float
    p99_seconds: float


class Latencies(TypedDict):
    """All timeframes, shortest first."""

    rows: list[Latency]


class AssetState(TypedDict):
    """An asset on a timeframe: how many series, and how many of them are stale, never computed and failing."""

    asset: str
    timeframe: str
    series: int
    stale: int
    missing: int
    failing: int
    newest_ts: datetime | None


class AssetStates(TypedDict):
    """All assets and timeframes, each asset after what it reads."""

    rows: list[AssetState]
