"""Which bars to ask a provider for: what has closed, what is to be confirmed, and gaps. Pure planning; asks nobody."""

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
from ema_assets.refresh.describe import Describer
from ema_assets.refresh.plan import AT_ONCE, MARKET, Publications

# No series is asked more often than this for its gaps.
MOST_GAP_ROUNDS = 5

# What `plan_gaps` makes.
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
    """How bars are asked for.

    Attributes:
        history_days: per fetched timeframe, how many days a new series reaches back.
        publications: per provider, when its bars can be asked for, and when again.
        long_histories: per provider that has it, by which longer bars it reaches further back; None is the default one.
        describers: per provider that can be asked, how it is asked what became of its symbols.
    """

    history_days: Mapping[Timeframe, int]
    publications: Publications = field(default_factory=lambda: AT_ONCE)
    long_histories: Mapping[str | None, LongHistory] = field(default_factory=dict)
    describers: Mapping[str | None, Describer] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, watched: Watchlist) -> "FetchRules":
        """The rules that the settings make for the providers of the watchlist."""
        used = {each.provider for each in watched.instruments if each.is_fetched}
        known = settings.publications
        declared = {name: registry.declared(name or settings.provider) for name in used}
        return cls(
            watched.history_days,
            {name: known[name] for name in used if name in known},
            {name: each.long_history for name, each in declared.items() if each.long_history is not None},
            {name: _describer(settings, each) for name, each in declared.items() if each.describe is not None},
        )

    def beginning(self, timeframe: Timeframe, now: datetime) -> datetime:
        """How far back the bars of a fetched `timeframe` shall reach: a midnight, UTC."""
        return (now - timedelta(days=self.history_days[timeframe])).replace(hour=0, minute=0, second=0, microsecond=0)

    def overlaps(self, timeframe: Timeframe) -> pl.DataFrame:
        """How far before the last stored bar a request begins, where it is not the timeframe's: provider, overlap."""
        longer = {
            name: each.overlap for name, each in self.publications.items() if each.overlap > timeframe.fetched.overlap
        }
        return pl.DataFrame(
            {"provider": list(longer), "overlap": list(longer.values())},
            schema={"provider": pl.String(), "overlap": pl.Duration("us")},
        )

    def final_through(self, timeframe: Timeframe, provider: str | None, now: datetime) -> datetime:
        """Bars that closed up to here are final when they come at `now`."""
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
    """Which bars to ask for: symbol, calendar, provider, start, end (UTC, end excluded), rows (at most); sorted.

    Args:
        state: of the series considered, as `ledger.fetch_state` returns it.
        timeframe: a fetched one.
        closed: as `closed_bars` returns it.
        rules: the depth of a new series, and the overlaps.
        now: UTC.
        everything: ask for the whole depth again, also of series that are fresh or are pausing after a failure.
    """
    beginning = rules.beginning(timeframe, now)
    is_reread = (pl.col("asked_at") < pl.col("reread_at")).fill_null(False)
    is_stale = (
        pl.col("checked_through").is_null()
        | (pl.col("checked_through") < pl.col("ts_end"))
        | (pl.col("asked_at") < pl.col("recheck_at")).fill_null(False)
    ) & (pl.col("next_attempt_at").is_null() | (pl.col("next_attempt_at") <= now))
    overlapping = pl.col("checked_through") - pl.col("overlap").fill_null(timeframe.fetched.overlap)
    sessions_back = pl.col("reread_from") - pl.lit(timeframe.fetched.label_lead)
    start = (
        pl.when(pl.col("checked_through").is_null())
        .then(pl.lit(beginning, UTC_TIME))
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
    """Which gaps to ask for beside `plan`: symbol, calendar, provider, start, end, round, rows.

    A symbol occurs once per round. `due` is as `quality.due_gaps` returns it. What `plan` asks for anyway is left out.
    A few stored bars on both sides are asked for as well, up to the last one that is `closed` (as `closed_bars` returns
    it): they tell whether the gap would be filled on another scale, after a split, and hold a vendor's label of a day,
    which lies before the open.
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
    """`series` (a MARKET, …) with what `closed` says of its market: up to where it can be asked for, and when again."""
    last = closed.select(*MARKET, "ts_end", "recheck_at", "reread_at", "reread_from")
    return series.join(last, on=list(MARKET), how="inner", nulls_equal=True, maintain_order="left")


def rows_of(timeframe: Timeframe) -> pl.Expr:
    """At most how many bars a request brings: it takes every market for one that never closes."""
    span = pl.col("end") - pl.col("start")
    return (span.dt.total_minutes() // timeframe.minutes + 1).alias("rows")
