"""What a layout of bar files is: a record that says how to recognise it and what its columns mean. Reads no file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Layout:
    """How one vendor writes bars. Declare one as `LAYOUT` in a module of `ema_assets/files/layouts/`.

    Attributes:
        name: what is printed, such as `Stooq`.
        example: the head and a row as the vendor writes them. Documentation shows it and a test reads it.
        marks: names of columns, as `columns.plain` spells them, by which a head is recognised. All must be there.
        unless: names of columns that the head must not have.
        columns: what differs from the common names: the column of a role (`ts`, `open`, …), or several to try in turn.
        row: for files without a head: whether the cells of a row are this layout's.
        headless: for files without a head: the roles of the columns from the left, `-` for one that is not read.
        only: rows that are bars: the values that a column must have one of.
        is_guessed: True when files of others look alike: its marks are the commonest names, or there is no head. Then
            `zone` and `label` are taken only where the sessions do not show others.
        zone: the zone of times that name none, where the vendor documents it.
        zone_calendars: calendars of the symbols that `zone` is for; empty when it is for all.
        zones: zones that its times may be in, where the vendor leaves it open. The sessions of the calendar decide.
        is_zone_unknown: True when not even UTC may be taken for granted.
        label: `open` or `close` where the vendor documents it.
        dates: the order of numbers in dates, `dmy` or `mdy`.
        timeframe: key of the timeframe that all its files have.
        calendar: trading calendar of its symbols, where all have one.
        price_decimals: prices that are written without a decimal point have so many decimals: 9 for billionths.
        volume_unit: units of the instrument per unit of the volume: 100 where volumes are in lots of 100 shares.
        symbol: from the vendor's spelling of a symbol to the usual one.
        words: words in the names of its files, in small letters, that are no symbols.
        remark: what a reader of the documentation must know.
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
    words: frozenset[str] = frozenset()
    remark: str = ""


# Every file that no layout claims and whose columns have common names.
BY_NAME = Layout(
    name="columns by their names",
    example="symbol,timeframe,ts,open,high,low,close,volume\nAAPL,5m,2024-02-14T14:30:00Z,185.3,186.2,185.1,186.0,51230",
    remark="Names in any case and order; a time without a zone is UTC unless the sessions say otherwise.",
)
