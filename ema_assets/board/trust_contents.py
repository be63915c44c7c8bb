"""Whether the numbers can be trusted, as plain values: conditions, corrections, gaps, latency. No HTTP, no markup."""

import polars as pl

from ema_assets.board import shapes
from ema_assets.board.parameters import Values
from ema_assets.board.site import Site, as_shape, chosen_symbols, on_page, paging, timeframe_of
from ema_assets.model.asset_names import OHLC
from ema_assets.reports import freshness, health, status


def trusted(site: Site, _values: Values) -> shapes.Trusted:
    """Whether the numbers can be trusted now, in numbers and sentences."""
    return trust_of(site)


def trust_of(site: Site) -> shapes.Trusted:
    """Return whether the numbers can be trusted now, in numbers and sentences."""
    overview, configured = site.overview, site.configured
    found = overview.trust
    rows, crossovers_flipped, trades_flipped = found.flipped()
    return {
        "verdict": found.verdict,
        "series": found.series,
        "fine": found.fine,
        "symbols": overview.heat_map.series["symbol"].n_unique(),
        "conditions": {each: found.counts[each] for each in freshness.CONDITIONS if found.counts.get(each)},
        "last_work": found.last_work,
        "gaps": found.gaps[0],
        "missing_bars": found.gaps[1],
        "corrections": found.corrections.height,
        "rows_recomputed": rows,
        "crossovers_flipped": crossovers_flipped,
        "trades_flipped": trades_flipped,
        "failures": [str(reason) for reason in found.failures],
        "not_answering": found.not_answering,
        "silent_symbols": found.symbols,
        "is_synthetic": site.is_synthetic,
        "configuration_error": configured.error,
        "sync_error": found.not_synced,
        "reads_as_role": bool(site.overviews.readers.has_role),
    }


def not_fresh(site: Site, values: Values) -> shapes.NotFreshPage:
    """The series that need attention, the worst first, and why."""
    overview = site.overview
    timeframe_of(overview, values["timeframe"])
    found = overview.heat_map.only(chosen_symbols(site, values)).series
    if values["timeframe"] is not None:
        found = found.filter(timeframe=values["timeframe"])
    if values["condition"] is not None:
        found = found.filter(condition=values["condition"])
    else:
        found = found.filter(~pl.col("condition").is_in(freshness.FINE))
    rank = {name: number for number, name in enumerate(freshness.CONDITIONS)}
    lengths = {each.key: number for number, each in enumerate(overview.heat_map.timeframes)}
    rows = found.with_columns(
        length=pl.col("timeframe").replace_strict(lengths, return_dtype=pl.Int64),
        rank=pl.col("condition").replace_strict(rank, return_dtype=pl.Int64),
        meaning=pl.col("condition").replace_strict(freshness.CONDITIONS, return_dtype=pl.String),
    ).sort("rank", "symbol", "length")
    return {**paging(rows.height, values), "rows": as_shape(on_page(rows, values), shapes.NotFresh)}


def corrections(site: Site, values: Values) -> shapes.Corrections:
    """Corrections and splits of the last 24 hours, newest first, and how far each reached."""
    rows = site.overview.trust.corrections
    return {**paging(rows.height, values), "rows": as_shape(on_page(rows, values), shapes.Correction)}


def gaps(site: Site, values: Values) -> shapes.Gaps:
    """Bars that should exist and do not, and that are requested again; newest first."""
    with site.overviews.readers.transaction() as transaction:
        rows = health.open_gaps(transaction)
    return {**paging(rows.height, values), "rows": as_shape(on_page(rows, values), shapes.Gap)}


def latency(site: Site, _values: Values) -> shapes.Latencies:
    """The time from a bar's close to its strategy row, over the last seven days, per timeframe."""
    with site.overviews.readers.transaction() as transaction:
        rows = status.latency(transaction, site.overviews.times.machine())
    return {"rows": as_shape(pl.DataFrame(rows), shapes.Latency)}


def by_asset(site: Site, _values: Values) -> shapes.AssetStates:
    """How many series of every asset and timeframe are stale, missing or failing.

    Rolled-up bars also count as failing when the bars that they are rolled up from fail.
    """
    overview = site.overview
    with site.overviews.readers.transaction() as transaction:
        found = status.by_asset(transaction, overview.now, site.configured.settings.publications)
        failing = _failing_bars(overview.heat_map.series, health.failing(transaction, OHLC))
    rows: list[shapes.AssetState] = [
        {
            "asset": each.asset,
            "timeframe": each.timeframe,
            "series": each.series,
            "stale": each.stale,
            "missing": each.missing,
            "failing": max(each.failing, failing.get(each.timeframe, 0)) if each.asset == OHLC else each.failing,
            "newest_ts": each.newest_ts,
        }
        for each in found
    ]
    return {"rows": rows}


def _failing_bars(series: pl.DataFrame, failing: pl.DataFrame) -> dict[str, int]:
    """Return, by timeframe, how many series have bars that fail or are rolled up from failing bars."""
    own = series.select("symbol", "timeframe", base=pl.coalesce("source", "timeframe"))
    known = failing.select("symbol", base="timeframe")
    hit = pl.concat(
        [
            own.join(known, on=["symbol", "base"], how="semi"),
            own.join(known, left_on=["symbol", "timeframe"], right_on=["symbol", "base"], how="semi"),
        ]
    )
    return dict(hit.group_by("timeframe").agg(pl.col("symbol").n_unique()).iter_rows())
