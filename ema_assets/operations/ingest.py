"""Bars from files: CSV and Parquet, through the same validation as a provider's, into `ohlc`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from ema_assets.model.errors import BarFileError, InvalidKeyError
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.symbols import parse_symbol, parse_timeframe
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.operations.sync_watchlist import cover
from ema_assets.refresh.answers import Answer, Extent, Stored
from ema_assets.refresh.outcome import batches
from ema_assets.refresh.store_answer import store_bars
from ema_assets.store import ledger, sessions
from ema_assets.store.database import Database

_TIME_NAMES = ("ts", "date", "datetime", "timestamp", "time")
_REQUIRED = tuple(BAR_SCHEMA)
_BARS_A_BATCH = 200_000


@dataclass(slots=True)
class IngestedSeries:
    """What became of one series of a file.

    `stored` counts new or corrected bars, `equal` those already there, `flagged` the suspicious ones among both,
    `missing` bars that should be between the file's first and last bar and are nowhere. `split` is the ratio by which
    what was stored had to be brought to the file's scale.
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


def read_file(path: Path, symbol: str | None = None, timeframe: str | None = None) -> pl.DataFrame:
    """Bars of a CSV or Parquet file, unchecked, following BAR_SCHEMA; values that are not numbers are null.

    Column names are read without regard to case, `date`, `datetime`, `timestamp` and `time` stand for `ts`. A time
    without a zone is UTC. `symbol` and `timeframe` fill in columns that the file does not have.

    Raises:
        BarFileError: when the file cannot be read, lacks a column, or holds a malformed symbol, timeframe or time.
    """
    frame = _load(path)
    lowered = [name.strip().lower() for name in frame.columns]
    for name in lowered:
        if lowered.count(name) > 1:
            raise BarFileError(f"{path}: two columns are called {name}; leave one of them")
    frame = frame.rename(dict(zip(frame.columns, lowered, strict=True)))
    for name in _TIME_NAMES:
        if name in frame.columns:
            frame = frame.rename({name: "ts"})
            break
    for name, value in (("symbol", symbol), ("timeframe", timeframe)):
        if value is not None and name not in frame.columns:
            frame = frame.with_columns(pl.lit(value).alias(name))
    missing = [name for name in _REQUIRED if name not in frame.columns]
    if missing:
        options = [f"--{name}" for name in missing if name in ("symbol", "timeframe")]
        hint = f"; give {' and '.join(options)} on the command line for a file of one series" if options else ""
        raise BarFileError(
            f"{path}: lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; needed are "
            f"{', '.join(_REQUIRED)}, found are {', '.join(frame.columns)}{hint}"
        )
    numbers = [name for name, dtype in BAR_SCHEMA.items() if dtype == pl.Float64]
    frame = frame.select(
        pl.col("symbol", "timeframe").cast(pl.String).str.strip_chars(),
        _time(path, frame),
        *(pl.col(name).cast(pl.Float64, strict=False) for name in numbers),
    ).select(list(BAR_SCHEMA))
    _check_keys(path, frame)
    return frame


def _load(path: Path) -> pl.DataFrame:
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": lambda source: pl.read_csv(source, infer_schema=False),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BarFileError(f"{path}: bars are read from .csv and .parquet files, not from {path.suffix or 'this'!r}")
    try:
        return reader(path)
    except FileNotFoundError:
        raise BarFileError(f"{path}: no such file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BarFileError(f"{path}: cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from None


def _time(path: Path, frame: pl.DataFrame) -> pl.Expr:
    dtype = frame.schema["ts"]
    column = pl.col("ts")
    if isinstance(dtype, pl.Datetime):
        return (
            column.dt.convert_time_zone("UTC").cast(UTC_TIME)
            if dtype.time_zone
            else column.dt.replace_time_zone("UTC").cast(UTC_TIME)
        )
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if dtype != pl.String:
        raise BarFileError(f"{path}: `ts` must be a date or a time, found {dtype}")
    # A zone or none, a space or a T, seconds or none, a date alone: what people and vendors really write.
    text = column.str.strip_chars().str.replace(" ", "T").str.replace(r"Z$", "+00:00")
    has_zone = text.str.contains(r"T.*[+-]\d\d:?\d\d$")
    zoned = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False).dt.convert_time_zone("UTC")
    plain = pl.coalesce(
        text.str.to_datetime(form, time_unit="us", strict=False)
        for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
    ).dt.replace_time_zone("UTC")
    parsed = pl.when(has_zone).then(zoned).otherwise(plain)
    bad = frame.with_row_index("row").filter(column.is_not_null() & parsed.is_null())
    if not bad.is_empty():
        row, value = bad.select("row", "ts").row(0)
        raise BarFileError(
            f"{path}: line {row + 2}: `ts` must be a time such as 2024-02-14T14:30:00Z, received {value!r}"
            f" ({bad.height} such line{'s' if bad.height > 1 else ''})"
        )
    return parsed.alias("ts")


def _check_keys(path: Path, frame: pl.DataFrame) -> None:
    for name, parse in (("symbol", parse_symbol), ("timeframe", parse_timeframe)):
        for value in frame[name].unique(maintain_order=True):
            try:
                parse(value or "")
            except InvalidKeyError as error:
                line = frame[name].to_list().index(value) + 2
                raise BarFileError(f"{path}: line {line}: {error}") from None


def store_file(database: Database, bars: pl.DataFrame, source: str, now: datetime) -> list[IngestedSeries]:
    """Store the sound ones of `bars` (BAR_SCHEMA, any number of series), a batch of series a transaction.

    Every symbol must be an instrument already. Bars that have not closed at `now` are skipped, as are bars outside
    the sessions of the symbol's calendar; invalid and impossible ones go to `bar_rejected` with `source`. Bars on
    another scale than the stored ones, by the ratio of a split, bring what is stored of their series to their scale.
    """
    summaries = []
    for (text,), series in bars.partition_by("timeframe", as_dict=True, maintain_order=True).items():
        timeframe = by_key(text)
        estimates = series.group_by("symbol", maintain_order=True).agg(rows=pl.len())
        for batch in batches(estimates, _BARS_A_BATCH):
            part = series.filter(pl.col("symbol").is_in(batch))
            summaries += _store_batch(database, timeframe, part, source, now)
    return summaries


def _store_batch(
    database: Database, timeframe: Timeframe, bars: pl.DataFrame, source: str, now: datetime
) -> list[IngestedSeries]:
    low, high = bars.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    symbols = bars["symbol"].unique(maintain_order=True).to_list()
    starts = bars.group_by("symbol").agg(file_start=pl.col("ts").min())
    with database.transaction() as transaction:
        known = ledger.instruments(transaction, timeframe, symbols).join(starts, on="symbol")
        calendars = known["calendar"].unique().to_list()
        if low is not None:
            for calendar in calendars:
                cover(transaction, calendar, (low - timedelta(days=14)).date(), now.date())
        trading = sessions.between(transaction, calendars, low or now, max(high or now, now))
        stored = store_bars(
            transaction,
            timeframe,
            Answer(bars, _asked(known, timeframe), source, closed_by=now, extent=Extent.FILE),
            trading,
            now,
        )
    return _summaries(symbols, timeframe, bars, stored)


def _asked(known: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """The series of a file (ASKED_SCHEMA). Its bars say how far it reaches."""
    # What lies between the bars a provider was asked for and those of the file it must still be asked for.
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
    return list(found.values())
