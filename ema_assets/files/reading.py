"""Reading of one bar file: layout, columns, numbers and times. Times without a zone stay as they are written.

Their instants depend on sessions and are decided in `operations`, where calendars are known.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from ema_assets.files import discovery
from ema_assets.files.cells import BY_COMMAS, LINE, Table
from ema_assets.files.column_values import BEGINS_LIKE_A_TIME, with_roles_of_values
from ema_assets.files.columns import ADJUSTED, check_prices, is_known, may_be_symbols, plain, roles, volume_columns
from ema_assets.files.date_parts import with_joined_dates
from ema_assets.files.declaration import BY_NAME, Layout
from ema_assets.files.headless import guessed_columns
from ema_assets.files.joined_times import joined
from ema_assets.files.keys import Keys, KeySources, are_symbols, check_one_instrument, with_keys
from ema_assets.files.loading import load
from ema_assets.files.long import pivoted
from ema_assets.files.numbers import is_missing, read_numbers
from ema_assets.files.options import IGNORED, ReadOptions
from ema_assets.files.times import read_times
from ema_assets.files.wide import check_names_prices, unpivoted
from ema_assets.files.zone_names import with_stated_zone, without_unclear_zones
from ema_assets.model.counts import counted, noun
from ema_assets.model.errors import AmbiguousBarFile, BarFileError
from ema_assets.model.schemas import BAR_SCHEMA, PRICES
from ema_assets.model.timeframes import by_key

_NO_BAR = "without prices"
# Bars have times in these years. Others are of another calendar, such as 2568 in Thailand.
_YEARS = range(1700, 2200)


@dataclass(frozen=True, slots=True)
class BarsOfFile:
    """The bars of one file.

    Attributes:
        path: The file.
        bars: symbol, timeframe, `wall` (the time as written, no zone), `ts` (UTC, null where the file does not say
            which instant it is), open, high, low, close, volume (Float64), `line`; in the order of the file.
        layout: The layout that was recognised.
        keys: Where symbol and timeframe come from.
        form: The kind of file, such as `CSV` or `JSON in gzip`.
        notes: Remarks for a person on how the file was read.
        has_ends: Whether an intraday bar has the time 24:00, which is the close of a bar.
    """

    path: Path
    bars: pl.DataFrame
    layout: Layout
    keys: Keys
    form: str
    notes: tuple[str, ...]
    has_ends: bool = False

    def as_utc(self) -> pl.DataFrame:
        """Return the bars (BAR_SCHEMA). Times without a zone are taken as UTC, whatever the sessions say."""
        return self.bars.with_columns(pl.coalesce("ts", pl.col("wall").dt.replace_time_zone("UTC")).alias("ts")).select(
            list(BAR_SCHEMA)
        )


def read(
    path: Path, options: ReadOptions, known: Collection[str] = (), spelling: Callable[[str], str] = str
) -> BarsOfFile:
    """Return the bars of the file at `path`, not validated. Prices and volumes that are not numbers are null.

    `known` has the existing symbols. A file name in small letters may be one of them. `spelling` returns how a symbol
    is written here that a file may write as another vendor does.

    Raises:
        AmbiguousBarFile: when the file can be read in several ways; the message begins with the path.
        BarFileError: when it is not a bar file, or a symbol, timeframe or time in it is malformed.
    """
    table = load(path)
    try:
        table = unpivoted(table)
        return _read(path, table if options.columns else with_joined_dates(pivoted(table)), options, known, spelling)
    except AmbiguousBarFile as error:
        raise AmbiguousBarFile(f"{path}: {error}", error.readings) from None
    except BarFileError as error:
        raise BarFileError(f"{path}: {error}") from None
    except pl.exceptions.PolarsError as error:
        # A column has a type that fits no role, such as lists of symbols.
        raise BarFileError(f"{path}: cannot be read as bars: {str(error).splitlines()[0]}") from error


def _read(
    path: Path, table: Table, options: ReadOptions, known: Collection[str], spelling: Callable[[str], str]
) -> BarsOfFile:
    layout, found = _columns(table, options)
    column = {role: str(place) for role, place in found.items()}
    cells, notes = _rows_of_bars(table, layout, column)
    has_hours = bool(table.heads) and "time" in found and table.names[found["time"]] == "hour"
    written = joined([cells[column[role]] for role in ("ts", "date", "time") if role in column], has_hours=has_hours)
    written = without_unclear_zones(with_stated_zone(written, table.facts.get("zone"), options.tz), options.tz)
    times = read_times(written, options.dates, usual_order=layout.dates)
    cells = cells.with_columns(times.wall.alias("wall"), times.ts.alias("ts"), written.cast(pl.String).alias("written"))
    cells = cells.with_columns(is_end=pl.lit(False) if times.is_end is None else times.is_end)
    cells, below = _without_footers(cells, column)
    _check_years(cells)
    prices = {role: column.get(role, column["close"]) for role in PRICES}
    numbers, sign = read_numbers(
        cells, prices, column.get("volume"), options.decimal, are_by_commas=table.form == BY_COMMAS
    )
    volume = numbers.pop("volume", None)
    if volume is not None and table.heads and options.columns is None:
        volume = _first_traded(volume, cells, table.names, layout, sign) * layout.volume_unit
    if layout.price_decimals and all(_is_whole(cells[name]) for name in prices.values()):
        # Polars divides by a scalar by multiplying with its inverse, which rounds twice. Dividing by a column is exact.
        unit = pl.repeat(10.0**layout.price_decimals, cells.height, eager=True)
        numbers = {role: series / unit for role, series in numbers.items()}
        notes.append(f"prices in units of 1e-{layout.price_decimals}")
    bars = cells.select("wall", "ts", "is_end", LINE).with_columns(
        *(series.alias(role) for role, series in numbers.items()),
        volume=pl.lit(None, pl.Float64) if volume is None else volume,
    )
    bars, keys = with_keys(
        bars,
        KeySources(
            path=path,
            symbols=cells[column["symbol"]] if "symbol" in column else None,
            timeframes=cells[column["timeframe"]] if "timeframe" in column else None,
            beside={**_symbol_of_value(table, found), **table.facts},
            layout=layout,
            options=options,
            known=known,
            spelling=spelling,
        ),
    )
    notes = [*table.notes, *notes, *below, *([f"times: {times.note}"] if times.note else [])]
    notes += _notes(cells, column, table.names, bars["volume"], sign)
    # A day that is labelled with its last moment, 24:00, is that day and not the next one.
    is_day = pl.col("timeframe").is_in([key for key in bars["timeframe"].unique() if by_key(key).is_session])
    day = pl.when(is_day & pl.col("is_end")).then(timedelta(days=1)).otherwise(timedelta(0))
    has_ends = bool(bars.select((pl.col("is_end") & ~is_day).any()).item())
    order = ["symbol", "timeframe", pl.col("wall", "ts") - day, *PRICES, "volume", LINE]
    return BarsOfFile(path, bars.select(order), layout, keys, table.form, tuple(notes), has_ends)


def _columns(table: Table, options: ReadOptions) -> tuple[Layout, dict[str, int]]:
    """Return the layout of a table, and the place of the column of each role."""
    width = table.cells.width - 1
    if options.columns is not None:
        if len(options.columns) > width:
            raise BarFileError(f"`--columns` names {len(options.columns)} columns, the file has {width}")
        return BY_NAME, _places(options.columns)
    if not table.heads:
        layout = discovery.by_rows(table)
        if layout is None:
            raise AmbiguousBarFile(*guessed_columns(table))
        return layout, _places(layout.headless[:width])
    layout = discovery.by_head(table.names)
    found = with_roles_of_values(table, roles(table.names, layout))
    check_names_prices(table, found)
    check_prices(found, table.names)
    place = found.get("symbol")
    if place is not None and "symbol" not in layout.columns and may_be_symbols(table.names[place]):
        found = found if are_symbols(table.cells[str(place)]) else {k: v for k, v in found.items() if v != place}
    check_one_instrument(table, found, layout)
    return layout, found


def _places(columns: Sequence[str]) -> dict[str, int]:
    return {role: place for place, role in enumerate(columns) if role != IGNORED}


def _rows_of_bars(table: Table, layout: Layout, column: Mapping[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """Return the rows that are bars, and notes on how many were left out and why."""
    cells, notes = table.cells, []
    text = {name for name, dtype in cells.schema.items() if dtype == pl.String}
    if table.heads and column["close"] in text:
        head = table.heads[-1][int(column["close"])]
        kept = cells.filter((pl.col(column["close"]) != head).fill_null(True))
        if kept.height < cells.height:
            notes.append(f"{counted(cells.height - kept.height, 'repeated head')} left out")
            cells = kept
    for name, values in layout.only.items():
        if name in table.names:
            kept = cells.filter(pl.col(str(table.names.index(name))).is_in(values))
            if kept.height < cells.height:
                others = cells.height - kept.height
                are = noun(others, "is", "are")
                notes.append(f"{counted(others, 'row')} left out that {are} not {name} {' or '.join(sorted(values))}")
            cells = kept
    prices = {column[role] for role in PRICES if role in column}
    if prices <= text and cells.height:
        kept = cells.filter(
            ~pl.all_horizontal(is_missing(name) | _is_action(name) for name in sorted(prices))
            | _has_no_time(column, text)
        )
        if kept.height < cells.height:
            count = cells.height - kept.height
            notes.append(f"{counted(count, 'row')} {_NO_BAR} left out")
            cells = kept
    return cells, notes


def _is_action(name: str) -> pl.Expr:
    """Return where a price is a word for a corporate action: some pages have rows such as `0.25 Dividend`."""
    return pl.col(name).str.contains(r"(?i)dividend|split").fill_null(False)


def _has_no_time(column: Mapping[str, str], text: Collection[str]) -> pl.Expr:
    """Return which rows have no time. They are counted as rows below the table and not as days without a price."""
    names = [column[role] for role in ("ts", "date") if role in column and column[role] in text]
    return (
        ~pl.any_horizontal(pl.col(name).str.contains(BEGINS_LIKE_A_TIME).fill_null(False) for name in names)
        if names
        else pl.lit(False)
    )


def _without_footers(cells: pl.DataFrame, column: Mapping[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """Return the rows without those below the bars, which have no time and no numeric close, and notes on these.

    Raises:
        BarFileError: when the time of a bar cannot be read.
    """
    close = cells[column["close"]]
    # A row is a bar when its close looks like a number.
    is_priced = close.is_not_null() if close.dtype != pl.String else close.str.contains(r"^\W*\d").fill_null(False)
    cells = cells.with_columns(is_priced.alias("is_priced"))
    last = cells.filter(pl.col("wall").is_not_null()).select(pl.col(LINE).max()).item()
    if last is None:
        last = -1
    below = (pl.col(LINE) > last) & pl.col("wall").is_null() & ~pl.col("is_priced")
    kept = cells.filter(~below)
    if kept.is_empty() and not cells.is_empty():
        kept = cells
    bad = kept.filter(pl.col("wall").is_null() & (pl.col("written").is_not_null() | pl.col("is_priced")))
    if not bad.is_empty():
        line, text = bad.select(LINE, "written").row(0)
        many = f" ({counted(bad.height, 'such line')})"
        raise BarFileError(f"line {line}: `ts` must be a time such as 2024-02-14T14:30:00Z, received {text!r}{many}")
    count = cells.height - kept.height
    return kept, [f"{counted(count, 'line')} below the table left out"] if count else []


def _check_years(cells: pl.DataFrame) -> None:
    """Refuse times that no bar has: no sessions are known so far away."""
    far = cells.filter(~pl.col("wall").dt.year().is_between(_YEARS.start, _YEARS.stop - 1))
    if not far.is_empty():
        line, text = far.select(LINE, "written").row(0)
        raise BarFileError(
            f"line {line}: `ts` must have a year of the Gregorian calendar from {_YEARS.start} to {_YEARS.stop - 1}, "
            f"received {text!r} ({counted(far.height, 'such line')})"
        )


def _is_whole(column: pl.Series) -> bool:
    """Return whether every number of a column is written without a decimal point."""
    return column.dtype.is_integer() or (column.dtype == pl.String and not column.str.contains(".", literal=True).any())


def _first_traded(volume: pl.Series, cells: pl.DataFrame, names: Sequence[str], layout: Layout, sign: str) -> pl.Series:
    """Return `volume`, or the first other column of volumes that is not zero throughout if `volume` is."""
    for place in volume_columns(names, layout):
        if bool((volume.fill_null(0) != 0).any()):
            break
        other = read_numbers(cells, {}, str(place), sign)[0]["volume"]
        volume = other if bool((other.fill_null(0) != 0).any()) else volume
    return volume


def _symbol_of_value(table: Table, found: Mapping[str, int]) -> dict[str, str]:
    """Return the name of a file's only price as the symbol if it is no word for a price, as in FRED's files."""
    if table.heads and "open" not in found:
        name = table.heads[-1][found["close"]].strip()
        if not is_known(plain(name)):
            return {"symbol": name}
    return {}


def _notes(
    cells: pl.DataFrame, column: Mapping[str, str], names: Sequence[str], volume: pl.Series, sign: str
) -> list[str]:
    notes = ["decimal comma"] if sign == "," else []
    if "open" not in column:
        notes.append("one price per row: open, high, low and close are the same")
    if "volume" not in column:
        notes.append("no volume")
    else:
        text = cells[column["volume"]]
        is_said = is_missing(column["volume"]) if text.dtype == pl.String else pl.col(column["volume"]).is_null()
        wrong = int((volume.is_null() & ~cells.select(is_said).to_series()).sum())
        absent = int(volume.null_count()) - wrong
        if wrong:
            notes.append(f"{counted(wrong, 'volume')} that are no numbers are missing")
        if absent:
            notes.append(f"{counted(absent, 'row')} without a volume")
    read = {int(place) for place in column.values()}
    for place, name in enumerate(names):
        if name in ADJUSTED and place in read:
            notes.append(
                f"{name.title()} is read as `--columns` says: it is adjusted for dividends, stored prices are not"
            )
        elif name in ADJUSTED:
            notes.append(f"{name.title()} is left out: stored prices are not adjusted for dividends")
    return notes
