"""The declaration of a bar file layout: a record of how to recognise it and what its columns mean. Reads no file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout in which one vendor writes bars. Declare one as `LAYOUT` in a module of `ema_assets/files/layouts/`.

    Attributes:
        name: The printed name, such as `Stooq`.
        example: The head and a row as the vendor writes them. Documentation shows it and a test reads it.
        marks: Column names, as `columns.plain` spells them, by which a head is recognised. All must be present.
        unless: Column names that the head must not have.
        columns: Columns whose names differ from the common ones, by role (`ts`, `open`, …). Several names of a role are
            tried in turn; with none (`()`), no column has this role, whatever its name is.
        row: For files without a head: a function that returns whether the cells of a row have this layout.
        headless: For files without a head: the roles of the columns from the left, `-` for a column that is not read.
        only: Which rows are bars: the allowed values, by column name.
        is_guessed: True when files of other vendors look the same, because the marks are the commonest names or there
            is no head. Then `zone` and `label` are used only where the sessions do not show others.
        zone: The zone of times that name none, where the vendor documents it.
        zone_calendars: Calendars of the symbols for which `zone` is valid; empty when it is valid for all.
        zones: Zones that the times may be in, where the vendor does not document it. The sessions of the calendar
            decide.
        is_zone_unknown: True when not even UTC may be assumed.
        label: Whether times are those of the `open` or of the `close` of a bar, where the vendor documents it.
        dates: The order of numbers in dates, `dmy` or `mdy`.
        timeframe: Key of the timeframe of all files with this layout.
        calendar: Trading calendar of the symbols, where all have the same.
        price_decimals: The number of decimals of prices that are written without a decimal point: 9 for billionths.
        volume_unit: Units of the instrument per unit of the volume: 100 where volumes are in lots of 100 shares.
        symbol: A function that converts the vendor's spelling of a symbol to the usual one.
        exchanges: Exchanges, in capital letters, that stand before a ticker in the names of files, as in `LSE_VOD`. The
            symbol is `LSE:VOD` then: VOD alone is another one.
        words: Words in the names of the files, in small letters, that are not symbols.
        remark: What a reader of the documentation must know.
    """

    name: str
    example: str
    marks: frozenset[str] = frozenset()
    unless: frozenset[str] = frozenset()
    columns: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    row: Callable[[Sequence[str]], bool] | None = None
    headless: tuple[str, ...] = ()
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_guessed: bool = False
    zone: str | None = None
    zone_calendars: frozenset[str] = frozenset()
    zones: tuple[str, ...] = ()
    is_zone_unknown: bool = False
    label: str | None = None
    dates: str | None = None
    timeframe: str | None = None
    calendar: str | None = None
    price_decimals: int = 0
    volume_unit: int = 1
    symbol: Callable[[str], str] | None = None
    exchanges: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    remark: str = ""


# The layout of every file that has no other one and whose columns have common names.
BY_NAME = Layout(
    name="columns by their names",
    example="symbol,timeframe,ts,open,high,low,close,volume\nAAPL,5m,2024-02-14T14:30:00Z,185.3,186.2,185.1,186.0,51230",
    remark="Names in any case and order; a time without a zone is UTC unless the sessions say otherwise.",
)
