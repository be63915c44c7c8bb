"""One reading of everything that is measured. The names of the metrics are not defined here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from ema_assets.config.settings import Settings
from ema_assets.market.calendars import bar_grid
from ema_assets.model.timeframes import by_key
from ema_assets.providers import registry
from ema_assets.refresh.call_budget import WINDOW_SECONDS
from ema_assets.refresh.plan import Publications, closed_bars
from ema_assets.reports import status
from ema_assets.reports.status import AssetStatus
from ema_assets.store import alert_delivery, measurements, sessions
from ema_assets.store.database import Transaction

if TYPE_CHECKING:
    from ema_assets.defs.run_queue import Runs

# Older sessions are not looked at: the lag of a series that is further behind is a lower bound.
_LOOK_BACK = timedelta(days=10)
_DAY = timedelta(days=1)
_FAR = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Readings:
    """The numbers read from the database, and from Dagster.

    Attributes:
        now: the machine's time, UTC.
        market_now: the market's time, UTC.
        assets: numbers of all, stale, missing and failing series per asset and timeframe.
        lags: timeframe, lag_seconds, series: how far series are behind, see `lags`.
        computed: timeframe, computed_at: when bars of a timeframe were last brought up to date.
        latency: timeframe, closes, series, p50_seconds, p99_seconds of the last seven days.
        providers: provider, calls, failures, is_open, closed_seconds; including providers in use without any call.
        allowed: calls per minute by provider, for providers in use.
        counts: what, label, n; see `measurements.counts`.
        sizes: schema, bytes; see `measurements.sizes`.
        horizons: calendar, known_through.
        channels: channels of alerts, as returned by `alert_delivery.channels` for the last 24 hours.
        runs: runs known to Dagster; None when it does not answer or was not asked.
    """

    now: datetime
    market_now: datetime
    assets: list[AssetStatus]
    lags: pl.DataFrame
    computed: pl.DataFrame
    latency: list[dict[str, object]]
    providers: pl.DataFrame
    allowed: Mapping[str, int]
    counts: pl.DataFrame
    sizes: pl.DataFrame
    horizons: pl.DataFrame
    channels: pl.DataFrame
    runs: "Runs | None" = None


def read(transaction: Transaction, settings: Settings, now: datetime, market_now: datetime) -> Readings:
    """Read everything at one moment, with as many statements for ten symbols as for ten thousand."""
    transaction.read_one_moment()
    asked = measurements.asked_through(transaction)
    known = measurements.providers(transaction, WINDOW_SECONDS, settings.provider)
    in_use = {provider or settings.provider for provider in asked["provider"].unique()} | set(known["provider"])
    are_asked = sorted(name for name in in_use if registry.is_asked(name))
    return Readings(
        now=now,
        market_now=market_now,
        assets=status.by_asset(transaction, market_now, settings.publications),
        lags=lags(transaction, asked, market_now, settings.publications),
        computed=asked.group_by("timeframe").agg(pl.col("computed_at").max()).drop_nulls(),
        latency=status.latency(transaction, now),
        providers=_with_silent_ones(known, are_asked),
        allowed={name: _allowed(settings, name) for name in are_asked},
        counts=measurements.counts(transaction, now - _DAY),
        sizes=measurements.sizes(transaction),
        horizons=sessions.ending_calendars(transaction, market_now + _FAR),
        channels=alert_delivery.channels(transaction, now - _DAY),
    )


def _with_silent_ones(known: pl.DataFrame, are_asked: Sequence[str]) -> pl.DataFrame:
    """Return `known` and a row of zeros for each of `are_asked` that it lacks; sorted by provider.

    A Prometheus series that came and went with each close would draw a line through the minutes without calls, and
    would end an alert that waits for it.
    """
    silent = pl.DataFrame({"provider": [name for name in are_asked if name not in set(known["provider"])]})
    zeros = silent.cast(pl.String).with_columns(calls=0, failures=0, is_open=False, closed_seconds=0.0)
    return pl.concat([known, zeros], how="vertical_relaxed").sort("provider")


def _allowed(settings: Settings, provider: str) -> int:
    return int(settings.config_of(registry.by_name(provider)).requests_per_minute)


def lags(transaction: Transaction, asked: pl.DataFrame, now: datetime, publications: Publications) -> pl.DataFrame:
    """Return for how long series could have requested the first bar they lack: timeframe, lag_seconds, series.

    The lag is 0 for series that lack none; nights and weekends do not count. `series` is their number. `asked` is from
    `measurements.asked_through`.
    """
    closed = closed_bars(transaction, now, publications).select(
        "calendar", "provider", "delay_seconds", "timeframe", "ts_end", delay=pl.col("published_at") - pl.col("ts_end")
    )
    market = ["calendar", "provider", "delay_seconds", "timeframe"]
    known = asked.join(closed, on=market, nulls_equal=True)
    fresh = known.filter(pl.col("checked_through") >= pl.col("ts_end"))
    parts = [fresh.select("timeframe", "series", lag_seconds=pl.lit(0.0))]
    behind = known.filter(pl.col("checked_through") < pl.col("ts_end"))
    if behind.height:
        recent = sessions.in_use(transaction, now - _LOOK_BACK, now)
        parts += [
            _behind(group, bar_grid(recent, by_key(str(timeframe))), now)
            for (timeframe,), group in behind.group_by("timeframe")
        ]
    return pl.concat(parts).group_by("timeframe", "lag_seconds").agg(pl.col("series").sum())


def _behind(series: pl.DataFrame, grid: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return the lag of series of one timeframe that lack a bar. `grid` has the timeframe's bars of the last days."""
    closes = grid.select("calendar", next_end="ts_end").sort("next_end")
    found = series.sort("checked_through").join_asof(
        closes,
        left_on="checked_through",
        right_on="next_end",
        by="calendar",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    since = pl.coalesce("next_end", "ts_end") + pl.col("delay")
    lag = (pl.lit(now) - since).dt.total_microseconds() / 1e6
    return found.select("timeframe", "series", lag_seconds=pl.max_horizontal(lag, 0.0))
