"""Every gauge by name: its meaning, its labels, and the source of its values. A new gauge is one more record.

No label is a symbol: what Prometheus stores must not grow with the watchlist.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl

from ema_assets.metrics.readings import Readings

PREFIX = "ema_assets_"
Values = Iterable[tuple[tuple[str, ...], float]]

_STATISTICS = {"median": 0.5, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Gauge:
    """One gauge. `values` returns the values of the labels, in their order, with the number of each."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    values: Callable[[Readings], Values]


def _of_assets(attribute: str) -> Callable[[Readings], Values]:
    return lambda seen: (((each.asset, each.timeframe), getattr(each, attribute)) for each in seen.assets)


def _lags(seen: Readings) -> Values:
    for (timeframe,), group in seen.lags.sort("timeframe", "lag_seconds").group_by("timeframe", maintain_order=True):
        upto = group["series"].cum_sum()
        for statistic, share in _STATISTICS.items():
            yield (str(timeframe), statistic), group["lag_seconds"][int((upto < share * upto[-1]).sum())]


def _latency(seen: Readings) -> Values:
    for row in seen.latency:
        for quantile, column in (("0.5", "p50_seconds"), ("0.99", "p99_seconds")):
            yield (str(row["timeframe"]), quantile), float(str(row[column]))


def _counted(what: str, *, is_labelled: bool = False) -> Callable[[Readings], Values]:
    def values(seen: Readings) -> Values:
        for label, number in seen.counts.filter(pl.col("what") == what).select("label", "n").iter_rows():
            yield ((label,) if is_labelled else ()), number

    return values


def _of_providers(column: str) -> Callable[[Readings], Values]:
    return lambda seen: (
        ((name,), float(value)) for name, value in seen.providers.select("provider", column).iter_rows()
    )


def _calls_left(seen: Readings) -> Values:
    sent = dict(seen.providers.select("provider", "calls").iter_rows())
    return (((name,), max(most - sent.get(name, 0), 0)) for name, most in seen.allowed.items())


def _horizons(seen: Readings) -> Values:
    today = seen.market_now.date()
    for calendar, last in seen.horizons.iter_rows():
        yield (calendar,), -1 if last is None else (last - today).days


def _computed(seen: Readings) -> Values:
    return (((timeframe,), moment.timestamp()) for timeframe, moment in seen.computed.iter_rows())


def _sizes(seen: Readings) -> Values:
    return (((schema or "all",), size) for schema, size in seen.sizes.iter_rows())


def _of_channels(value: pl.Expr) -> Callable[[Readings], Values]:
    return lambda seen: (
        ((name,), float(number)) for name, number in seen.channels.select("channel", value=value).iter_rows()
    )


def _runs(seen: Readings) -> Values:
    return () if seen.runs is None else (((state,), number) for state, number in seen.runs.counts.items())


def _oldest_queued(seen: Readings) -> Values:
    if seen.runs is not None:
        since = seen.runs.queued_since
        yield (), 0.0 if since is None else max(seen.now.timestamp() - since, 0.0)


def _last_runs(seen: Readings) -> Values:
    if seen.runs is not None:
        for timeframe, (state, ended) in seen.runs.last.items():
            yield (timeframe, state), ended


GAUGES = (
    Gauge("symbols", "Active symbols of the watchlist", (), _counted("symbols")),
    Gauge("symbols_silent", "Active symbols without bars for several sessions", (), _counted("silent")),
    Gauge("series", "Series of an asset on a timeframe", ("asset", "timeframe"), _of_assets("series")),
    Gauge(
        "series_stale",
        "Series with work that is due, failing ones that wait for their next attempt included",
        ("asset", "timeframe"),
        _of_assets("stale"),
    ),
    Gauge("series_missing", "Series never computed", ("asset", "timeframe"), _of_assets("missing")),
    Gauge("series_failing", "Series whose last attempt failed", ("asset", "timeframe"), _of_assets("failing")),
    Gauge(
        "freshness_lag_seconds",
        "For how long the first missing bar of a series could have been requested; 0 without one",
        ("timeframe", "statistic"),
        _lags,
    ),
    Gauge(
        "last_bars_timestamp_seconds",
        "When any series of bars was last brought up to date",
        ("timeframe",),
        _computed,
    ),
    Gauge(
        "close_latency_quantile_seconds",
        "From the close of a bar to its last row, over the last seven days",
        ("timeframe", "quantile"),
        _latency,
    ),
    Gauge("provider_calls", "Calls made in the last minute", ("provider",), _of_providers("calls")),
    Gauge(
        "provider_calls_allowed",
        "Calls allowed per minute",
        ("provider",),
        lambda seen: (((name,), most) for name, most in seen.allowed.items()),
    ),
    Gauge("provider_calls_left", "Calls still allowed in this minute", ("provider",), _calls_left),
    Gauge("provider_failures", "Failures in a row of reaching a provider", ("provider",), _of_providers("failures")),
    Gauge("provider_circuit_open", "1 while a provider is left alone", ("provider",), _of_providers("is_open")),
    Gauge(
        "provider_closed_seconds",
        "For how long no call is allowed, because the provider said so",
        ("provider",),
        _of_providers("closed_seconds"),
    ),
    Gauge("gaps_open", "Gaps of bars that are still requested", ("timeframe",), _counted("gaps", is_labelled=True)),
    Gauge("revisions_day", "Changes of the past in 24 hours", ("kind",), _counted("revised", is_labelled=True)),
    Gauge("corrected_bars_day", "Bars changed in 24 hours", ("kind",), _counted("corrected", is_labelled=True)),
    Gauge("rejected_bars_day", "Bars rejected in 24 hours", (), _counted("rejected")),
    Gauge("flagged_bars_day", "Bars flagged in 24 hours", (), _counted("flagged")),
    Gauge(
        "alerts_waiting",
        "Alerts that wait for a channel, those in quiet hours included",
        ("channel",),
        _of_channels(pl.col("waiting")),
    ),
    Gauge(
        "alerts_given_up_day",
        "Alerts that were given up in 24 hours",
        ("channel",),
        _of_channels(pl.col("given_up")),
    ),
    Gauge(
        "alert_channel_failures",
        "Failures in a row of a channel that alerts wait for",
        ("channel",),
        _of_channels(pl.when(pl.col("waiting") > 0).then("failures").otherwise(0)),
    ),
    Gauge("calendar_days_left", "Days for which a calendar is known", ("calendar",), _horizons),
    Gauge("database_size_bytes", "Size on disk: of all, and of each schema", ("schema",), _sizes),
    Gauge("dagster_runs", "Runs that are queued or running", ("status",), _runs),
    Gauge("dagster_queue_oldest_seconds", "For how long the oldest queued run has waited", (), _oldest_queued),
    Gauge(
        "dagster_last_run_timestamp_seconds",
        "When the last run of a timeframe ended, and how",
        ("timeframe", "status"),
        _last_runs,
    ),
)
