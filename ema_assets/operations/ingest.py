"""Ingesting files: bars are placed by the sessions of their calendars, validated like a provider's, and stored."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import polars as pl

from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import BarsOfFile
from ema_assets.market.corporate_actions import name_of
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.operations.file_days import place_days
from ema_assets.operations.file_sessions import sessions_around
from ema_assets.operations.file_share import check_mostly_stored
from ema_assets.operations.file_times import place_times
from ema_assets.operations.roll_up_files import RolledUpSeries, roll_up_ingested
from ema_assets.operations.sync_watchlist import cover
from ema_assets.providers import registry
from ema_assets.refresh.answers import Answer, Extent, Stored
from ema_assets.refresh.outcome import batches
from ema_assets.refresh.store_answer import store_bars
from ema_assets.store import ledger, sessions
from ema_assets.store.database import Database

_BARS_A_BATCH = 200_000


@dataclass(frozen=True, slots=True)
class UnderstoodFile:
    """A file whose bars can be stored.

    Attributes:
        source: the file as it was read.
        bars: its bars (BAR_SCHEMA), `ts` the opening time in UTC, in the order of the file.
        zone: in words, the zone in which its times were read and why; empty for a file without bars.
        label: in words, whether its times are opens or closes of bars.
        calendars: trading calendar by symbol.
    """

    source: BarsOfFile
    bars: pl.DataFrame
    zone: str
    label: str
    calendars: Mapping[str, str]


@dataclass(slots=True)
class IngestedSeries:
    """The result of ingesting one series of a file.

    `stored` counts new or corrected bars, `equal` bars that were stored already, `flagged` the suspicious ones among
    both, `missing` bars that should be between the file's first and last bar but are neither in it nor stored. `split`
    is the ratio by which stored bars were rescaled to the file, `unadjusted` the ratio by which the file's bars were
    rescaled to the stored ones. `refused` says why nothing of the series was stored. `rolled_up_from` is the timeframe
    of the file if the series is rolled up from it; `read` is 0 then.
    """

    symbol: str
    timeframe: str
    read: int = 0
    stored: int = 0
    corrected: int = 0
    equal: int = 0
    flagged: int = 0
    missing: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    split: str | None = None
    unadjusted: str | None = None
    refused: str | None = None
    rolled_up_from: str | None = None


def understand(
    source: BarsOfFile,
    instruments: Mapping[str, Instrument],
    special_days: Mapping[str, SpecialDays],
    options: ReadOptions,
    now: datetime,
) -> UnderstoodFile:
    """Return the bars of a file with their opening times, found with the sessions of the calendars of `instruments`.

    `instruments` has every symbol of the file. `special_days` are keyed by calendar.

    Raises:
        AmbiguousBarFile: when the times can be read in several ways, or only in another one than usual.
        BarFileError: when its bars are of a timeframe that is not on, or most could not be stored and `options.partial`
            is not set. Both begin with the path.
    """
    _check_timeframes(source, instruments)
    calendars = {symbol: each.calendar for symbol, each in instruments.items()}
    bars = source.bars.with_columns(calendar=pl.col("symbol").replace_strict(calendars, return_dtype=pl.String))
    if bars["wall"].null_count() == bars.height:
        return UnderstoodFile(source, source.as_utc(), "", "", calendars)
    low, high = bars.select(pl.col("wall").min().alias("low"), pl.col("wall").max().alias("high")).row(0)
    around = sessions_around(bars["calendar"].unique(), low.date(), high.date(), special_days)
    try:
        placed, zone, label = _placed(bars, around, source, options)
        if not options.partial:
            check_mostly_stored(placed, instruments, around, now)
    except AmbiguousBarFile as error:
        raise AmbiguousBarFile(f"{source.path}: {error}", error.readings) from None
    except BarFileError as error:
        raise BarFileError(f"{source.path}: {error}") from None
    return UnderstoodFile(source, placed, zone, label, calendars)


def _check_timeframes(source: BarsOfFile, instruments: Mapping[str, Instrument]) -> None:
    """Refuse bars of timeframes that are not stored from files or are not on.

    Raises:
        BarFileError: naming the path, the timeframe and the symbol.
    """
    for symbol, key in source.bars.select("symbol", "timeframe").unique(maintain_order=True).iter_rows():
        timeframe, on = by_key(key), instruments[symbol].with_bars
        if timeframe.period is not None:
            raise BarFileError(
                f"{source.path}: has {key} bars of {symbol}, which are rolled up from 1d bars here; ingest those"
            )
        if timeframe not in on:
            message = (
                f"{source.path}: has {key} bars of {symbol}, which has {', '.join(each.key for each in on)}; say "
                "`--timeframe` if its bars are others"
            )
            if instruments[symbol].is_fetched:
                raise BarFileError(f'{message}, or add "{key}" to `timeframes` in the watchlist')
            like_it = [each for each in instruments.values() if replace(each, symbol=symbol) == instruments[symbol]]
            raise AmbiguousBarFile(message, [_group_with(timeframe, like_it)])


def _group_with(timeframe: Timeframe, instruments: Sequence[Instrument]) -> FileReading:
    """Return the group of a watchlist in which `instruments`, which differ in their symbols only, have `timeframe`."""
    one = instruments[0]
    calendar, is_extended, hours = one.calendar.partition(" ")
    lines = (
        "[[group]]",
        f'calendar = "{calendar}"',
        *([f'hours = "{hours}"'] if is_extended else []),
        f'provider = "{FROM_FILES}"',
        f"timeframes = {json.dumps([each.key for each in sorted({*one.timeframes, timeframe})])}",
        f"symbols = {json.dumps([each.symbol for each in instruments])}",
    )
    return FileReading(f"with {timeframe.key}, in a group of their own", (("group", "\n".join(lines)),))


def _placed(
    bars: pl.DataFrame, around: pl.DataFrame, source: BarsOfFile, options: ReadOptions
) -> tuple[pl.DataFrame, str, str]:
    """Return bars (BAR_SCHEMA) in the order of the file, and how their zone and their labels were understood."""
    is_day = pl.col("timeframe").is_in([key for key in bars["timeframe"].unique() if by_key(key).is_session])
    rows = bars.with_row_index("row")
    parts, zones, labels = [], [], []
    for part, is_of_days in ((rows.filter(is_day), True), (rows.filter(~is_day), False)):
        if part.is_empty():
            continue
        given = part.drop("row")
        times = (
            place_days(given, around, options)
            if is_of_days
            else place_times(given, around, source.layout, options, has_ends=source.has_ends)
        )
        parts.append(part.with_columns(times.ts.alias("ts")))
        zones.append(times.zone)
        labels.append(times.label)
    placed = pl.concat(parts).sort("row").select(list(BAR_SCHEMA))
    return placed, "; ".join(dict.fromkeys(zones)), "; ".join(dict.fromkeys(labels))


def store_file(database: Database, bars: pl.DataFrame, source: str, now: datetime) -> list[IngestedSeries]:
    """Store the valid ones of `bars` (BAR_SCHEMA, any number of series), one transaction per batch of series.

    Every symbol must be an instrument already. Bars that have not closed at `now` are skipped, as are bars outside
    the sessions of the symbol's calendar; invalid and impossible ones go to `bar_rejected` with `source`. If bars have
    another scale than the stored ones, the stored bars of their series are rescaled, or the new bars if newer ones are
    stored on the old scale. Longer bars that nothing else makes are rolled up from them (`roll_up_files`); such series
    come last in the result.
    """
    # A file named like a provider would be taken for the provider when the source of a bar is shown.
    source = source if registry.find(source) is None else f"./{source}"
    summaries: list[IngestedSeries] = []
    changed: dict[Timeframe, list[pl.DataFrame]] = defaultdict(list)
    for (text,), series in bars.partition_by("timeframe", as_dict=True, maintain_order=True).items():
        timeframe = by_key(text)
        estimates = series.group_by("symbol", maintain_order=True).agg(rows=pl.len())
        for batch in batches(estimates, _BARS_A_BATCH):
            part = series.filter(pl.col("symbol").is_in(batch))
            stored = _store_batch(database, timeframe, part, source, now)
            summaries += _summaries(batch, timeframe, part, stored)
            changed[timeframe].append(_starts(stored))
    for timeframe in sorted(changed):
        for starts in changed[timeframe]:
            summaries += map(_rolled_up, roll_up_ingested(database, timeframe, starts, now))
    return summaries


def _starts(stored: Stored) -> pl.DataFrame:
    """Return from when on the stored bars are those of the file, or changed by it: symbol, from_ts."""
    times = [stored.accepted.select("symbol", from_ts="ts"), stored.changes.select("symbol", from_ts="changed_from")]
    return pl.concat(times).drop_nulls().group_by("symbol").agg(pl.col("from_ts").min()).sort("symbol")


def _rolled_up(series: RolledUpSeries) -> IngestedSeries:
    return IngestedSeries(
        series.symbol,
        series.timeframe.key,
        stored=series.stored,
        corrected=series.corrected,
        equal=0 if series.is_rescaled else series.bars - series.stored,
        missing=series.missing,
        skipped={f"on another scale than files of {series.timeframe.key}": series.bars} if series.is_rescaled else {},
        rolled_up_from=series.source.key,
    )


def _store_batch(database: Database, timeframe: Timeframe, bars: pl.DataFrame, source: str, now: datetime) -> Stored:
    low, high = bars.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    symbols = bars["symbol"].unique(maintain_order=True).to_list()
    starts = bars.group_by("symbol").agg(file_start=pl.col("ts").min())
    with database.transaction() as transaction:
        ledger.keep_syncs_away(transaction)
        known = ledger.instruments(transaction, timeframe, symbols).join(starts, on="symbol")
        # In the order of a sync, which may write the same sessions.
        calendars = known["calendar"].unique().sort().to_list()
        if low is not None:
            for calendar in calendars:
                cover(transaction, calendar, (low - timedelta(days=14)).date(), now.date())
        trading = sessions.between(transaction, calendars, low or now, max(high or now, now))
        return store_bars(
            transaction,
            timeframe,
            Answer(bars, _asked(known, timeframe), source, closed_by=now, extent=Extent.FILE),
            trading,
            now,
        )


def _asked(known: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return the series of a file (ASKED_SCHEMA). The start and end are null: they follow from its bars."""
    # Bars between the provider's last request and the file's first bar must still be requested.
    is_asked_for = ~pl.col("is_fetched") | (pl.col("file_start") <= pl.col("checked_through")).fill_null(False)
    return known.select(
        "symbol",
        "calendar",
        is_fetched=pl.col("is_fetched") & pl.lit(timeframe.is_fetched),
        start=pl.lit(None, UTC_TIME),
        end=pl.lit(None, UTC_TIME),
        advances=is_asked_for,
        asked_at=pl.lit(None, UTC_TIME),
        final_through=pl.lit(None, UTC_TIME),
    )


def _summaries(symbols: list[str], timeframe: Timeframe, bars: pl.DataFrame, stored: Stored) -> list[IngestedSeries]:
    found = {symbol: IngestedSeries(symbol, timeframe.key) for symbol in symbols}
    for frame, name in ((bars, "read"), (stored.accepted, "equal"), (stored.flags, "flagged")):
        for symbol, count in frame.group_by("symbol").agg(pl.len()).iter_rows():
            setattr(found[symbol], name, count)
    for frame, reasons in ((stored.rejected, "rejected"), (stored.skipped, "skipped")):
        for symbol, reason, count in frame.group_by("symbol", "reason").agg(pl.len()).sort("reason").iter_rows():
            getattr(found[symbol], reasons)[reason] = count
    for symbol, count in stored.missing.iter_rows():
        found[symbol].missing = count
    changes = stored.changes.join(stored.rescaled, on="symbol", how="left").with_columns(
        pl.col("written", "corrected") - pl.col("bars").fill_null(0)
    )
    for symbol, written, corrected in changes.select("symbol", "written", "corrected").iter_rows():
        found[symbol].stored = written
        found[symbol].corrected = corrected
        found[symbol].equal -= written
    for symbol, split in stored.splits.items():
        found[symbol].split = split
    for symbol, split in _unadjusted(bars, stored).items():
        found[symbol].unadjusted = split
    for symbol, why in stored.refused.items():
        found[symbol].refused = why
    return list(found.values())


def _unadjusted(bars: pl.DataFrame, stored: Stored) -> dict[str, str]:
    """Return the splits by which closes of `bars` were divided, by symbol: only a change of scale alters closes."""
    read = bars.select("symbol", "ts", read="close").unique(["symbol", "ts"], keep="last")
    divided = (
        stored.accepted.filter(~pl.col("symbol").is_in(list(stored.splits)))
        .join(read, on=["symbol", "ts"])
        .filter(pl.col("read") != pl.col("close"))
        .sort("ts")
        # One value per split, although divided numbers may differ in their last digit.
        .with_columns(ratio=(pl.col("read") / pl.col("close")).round_sig_figs(9))
        .group_by("symbol")
        .agg(pl.col("ratio").unique(maintain_order=True))
    )
    found = {}
    for symbol, ratios in divided.iter_rows():
        # Bars before several splits were divided by all of them.
        steps = (earlier / later for earlier, later in zip(ratios, [*ratios[1:], 1.0], strict=True))
        found[symbol] = " and ".join(map(name_of, steps))
    return found
