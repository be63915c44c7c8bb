"""Plans which bars to request: closed bars, bars to be confirmed, and gaps. Asks no provider itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import polars as pl

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.market import gaps
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers import registry
from ema_assets.providers.declaration import LongHistory, Provider, Publication
from ema_assets.refresh.clients import SLOW_SHARE
from ema_assets.refresh.depths import depths
from ema_assets.refresh.describe import Describer
from ema_assets.refresh.plan import AT_ONCE, MARKET, Publications

# The gaps of a series are requested in at most this many rounds per refresh.
MOST_GAP_ROUNDS = 5

# The frame that `plan_gaps` returns.
GAP_PLAN_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "calendar": pl.String(),
        "provider": pl.String(),
        "delay_seconds": pl.Int64(),
        "start": UTC_TIME,
        "end": UTC_TIME,
        "round": pl.Int64(),
        "rows": pl.Int64(),
    }
)


@dataclass(frozen=True, slots=True)
class FetchRules:
    """How bars are requested. Providers are given by name; None is the default one.

    Attributes:
        history_days: per fetched timeframe, how many days a new series reaches back.
        publications: per provider, when its bars can be requested, and when they are requested again.
        long_histories: per provider that has long history, with which longer bars it reaches further back.
        describers: per provider that can be asked, how to ask for the states and corporate actions of its symbols.
        depths: per fetched timeframe, the depth in words (`depths`); empty if no sync has written another one.
    """

    history_days: Mapping[Timeframe, int]
    publications: Publications = field(default_factory=lambda: AT_ONCE)
    long_histories: Mapping[str | None, LongHistory] = field(default_factory=dict)
    describers: Mapping[str | None, Describer] = field(default_factory=dict)
    depths: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, watched: Watchlist) -> "FetchRules":
        """Return the rules that follow from the settings for the providers of the watchlist."""
        used = {each.provider for each in watched.instruments if each.is_fetched}
        known = settings.publications
        declared = {name: registry.declared(name or settings.provider) for name in used}
        return cls(
            watched.history_days,
            {name: known[name] for name in used if name in known},
            {name: each.long_history for name, each in declared.items() if each.long_history is not None},
            {name: _describer(settings, each) for name, each in declared.items() if each.describe is not None},
            depths(watched.history_days, watched.with_bars),
        )

    def beginning(self, timeframe: Timeframe, now: datetime) -> datetime:
        """Return how far back the bars of a fetched `timeframe` should reach: a midnight, UTC."""
        return (now - timedelta(days=self.history_days[timeframe])).replace(hour=0, minute=0, second=0, microsecond=0)

    def overlaps(self, timeframe: Timeframe) -> pl.DataFrame:
        """Return the overlaps of providers that are longer than the timeframe's: provider, overlap.

        A request begins this long before the end of what was last requested.
        """
        longer = {
            name: each.overlap for name, each in self.publications.items() if each.overlap > timeframe.fetched.overlap
        }
        return pl.DataFrame(
            {"provider": list(longer), "overlap": list(longer.values())},
            schema={"provider": pl.String(), "overlap": pl.Duration("us")},
        )

    def final_through(self, timeframe: Timeframe, provider: str | None, now: datetime) -> datetime:
        """Return the time up to which closed bars are final if they are received at `now`."""
        return now - self.publications.get(provider, Publication()).final_after(timeframe.key)


def _describer(settings: Settings, provider: Provider[Any]) -> Describer:
    config = settings.config_of(provider)
    assert provider.describe is not None
    calls = max(1, int(config.requests_per_minute * SLOW_SHARE))
    return Describer(provider.name, calls, partial(provider.describe, config))


def plan_requests(
    state: pl.DataFrame,
    timeframe: Timeframe,
    closed: pl.DataFrame,
    rules: FetchRules,
    now: datetime,
    *,
    everything: bool,
) -> pl.DataFrame:
    """Plan which bars to request: symbol, a MARKET, start, end (UTC, excluded), rows (at most); sorted by start.

    Args:
        state: the state of the series considered, as `ledger.fetch_state` returns it.
        timeframe: a fetched timeframe.
        closed: as `closed_bars` returns it.
        rules: the depth of a new series, and the overlaps.
        now: UTC.
        everything: request the whole depth again, also for series that are fresh or pausing after a failure.
    """
    beginning = rules.beginning(timeframe, now)
    is_reread = (pl.col("asked_at") < pl.col("reread_at")).fill_null(False)
    is_stale = (
        pl.col("checked_through").is_null()
        | (pl.col("checked_through") < pl.col("ts_end"))
        | (pl.col("asked_at") < pl.col("recheck_at")).fill_null(False)
        | pl.col("last_error").is_not_null()
    ) & (pl.col("next_attempt_at").is_null() | (pl.col("next_attempt_at") <= now))
    overlap = pl.col("overlap").fill_null(timeframe.fetched.overlap)
    overlapping = pl.col("checked_through") - overlap
    sessions_back = pl.col("reread_from") - pl.lit(timeframe.fetched.label_lead)
    start = (
        pl.when(pl.col("checked_through").is_null())
        # A series that begins again, on another calendar, begins where it began before. After bars of files that end
        # earlier, the provider continues from there.
        .then(pl.min_horizontal(pl.lit(beginning, UTC_TIME), "asked_from", pl.col("last_ts") - overlap))
        .when(pl.lit(everything))
        .then(pl.min_horizontal(pl.lit(beginning, UTC_TIME), pl.col("first_ts") - pl.lit(timeframe.fetched.label_lead)))
        .when(is_reread)
        .then(pl.min_horizontal(overlapping, pl.max_horizontal(sessions_back, "first_ts")))
        .otherwise(overlapping)
    )
    return (
        _until(state, closed)
        .join(rules.overlaps(timeframe), on="provider", how="left", nulls_equal=True, maintain_order="left")
        .filter(pl.lit(everything) | is_stale)
        .select("symbol", *MARKET, start=start, end="ts_end")
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(rows_of(timeframe))
        .sort("start", "symbol")
    )


def plan_gaps(due: pl.DataFrame, plan: pl.DataFrame, timeframe: Timeframe, closed: pl.DataFrame) -> pl.DataFrame:
    """Plan which gaps to request in addition to `plan`: GAP_PLAN_SCHEMA, sorted by round, start and symbol.

    A symbol occurs once per round. `due` is as `quality.due_gaps` returns it. Gaps that `plan` covers are left out. A
    few stored bars on both sides are requested as well, up to the last `closed` one (as `closed_bars` returns it). They
    show whether the gap would be filled on another scale, after a split, and they include a vendor's label of a day,
    which may lie before the open.
    """
    if due.is_empty():
        return GAP_PLAN_SCHEMA.to_frame()
    wanted = due.select("symbol", *MARKET, start="first_ts", end=pl.col("last_ts") + pl.lit(timeframe.duration)).join(
        plan.select("symbol", planned="start"), on="symbol", how="left"
    )
    apart = wanted.filter((pl.col("start") < pl.col("planned")).fill_null(True)).drop("planned")
    return (
        _until(gaps.clusters(apart, timeframe.fetched.gaps_apart, MOST_GAP_ROUNDS), closed)
        .with_columns(
            pl.col("start") - timeframe.fetched.gap_margin,
            pl.min_horizontal(pl.col("end") + timeframe.fetched.gap_margin, "ts_end").alias("end"),
        )
        .select("symbol", *MARKET, "start", "end", "round")
        .with_columns(rows_of(timeframe))
        .sort("round", "start", "symbol")
    )


def _until(series: pl.DataFrame, closed: pl.DataFrame) -> pl.DataFrame:
    """Return `series` (a MARKET, …) with its market's ts_end, recheck_at, reread_at and reread_from from `closed`."""
    last = closed.select(*MARKET, "ts_end", "recheck_at", "reread_at", "reread_from")
    return series.join(last, on=list(MARKET), how="inner", nulls_equal=True, maintain_order="left")


def rows_of(timeframe: Timeframe) -> pl.Expr:
    """Return the largest number of bars that a request can yield, as if the market never closed: rows."""
    span = pl.col("end") - pl.col("start")
    return (span.dt.total_minutes() // timeframe.minutes + 1).alias("rows")
