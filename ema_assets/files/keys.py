"""The symbol and timeframe of a file's bars, from columns, options, names and the distance between the bars."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ema_assets.files.cells import LINE, Table, numbers_of
from ema_assets.files.declaration import BY_NAME, Layout
from ema_assets.files.names import Named, from_name
from ema_assets.files.options import IGNORED, ReadOptions
from ema_assets.files.spacing import ALL_TIMEFRAMES, Spacing, spacing
from ema_assets.files.words import timeframe_key, timeframe_of
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading, InvalidKeyError
from ema_assets.model.schemas import PRICES
from ema_assets.model.symbols import parse_symbol, parse_timeframe
from ema_assets.model.timeframes import Timeframe, by_key

_DAY = 86_400
# The least distance of bars of a week: from Monday to Friday.
_WEEK = 5 * _DAY
# It takes this many distances to say that bars are weeks apart. Fewer may be those of selected days.
_CERTAIN = 5
# When a column tells instruments apart, at most one of this many contradicting rows may still contradict another.
_ONE_OF = 20
_SAMPLED_VALUES = 50
# At most this many words of a file's name are offered as its symbol.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Keys:
    """The origins of a file's symbols and timeframes in words, such as `its column` or `--symbol`."""

    symbol_from: str
    timeframe_from: str


@dataclass(frozen=True, slots=True)
class KeySources:
    """The possible sources of a file's symbol and timeframe.

    Attributes:
        path: The file, for its name.
        symbols, timeframes: Text of the columns, one per bar; None where there is no such column.
        beside: Facts from outside the table: `symbol`, `timeframe`.
        layout: The layout of the file.
        options: The user's options.
        known: The existing symbols.
        spelling: How a symbol is written here that the file writes as another vendor.
    """

    path: Path
    symbols: pl.Series | None
    timeframes: pl.Series | None
    beside: dict[str, str]
    layout: Layout
    options: ReadOptions
    known: Collection[str]
    spelling: Callable[[str], str] = str


def with_keys(bars: pl.DataFrame, sources: KeySources) -> tuple[pl.DataFrame, Keys]:
    """Return `bars` (`wall`, `line`, …) with the columns symbol and timeframe, and the origins of both.

    Raises:
        AmbiguousBarFile: when there is no symbol or timeframe, or the bars fit another timeframe.
        BarFileError: when a symbol or timeframe is invalid, or does not fit. The message does not name the file.
    """
    named = from_name(sources.path, sources.known)
    symbols, symbol_from = _symbols(bars, sources, named)
    bars = bars.with_columns(symbols.alias("symbol"))
    timeframes, timeframe_from = _timeframes(bars, sources, named)
    bars = bars.with_columns(timeframes.alias("timeframe"))
    for (key,), part in bars.partition_by("timeframe", as_dict=True, maintain_order=True).items():
        _check_spacing(by_key(str(key)), spacing(part, "wall"), timeframe_from)
    return bars, Keys(symbol_from, timeframe_from)


def are_symbols(column: pl.Series) -> bool:
    """Return whether `column` has several texts, all of which can be symbols, unlike names such as `Apple`.

    A column with only one value is not accepted: it does not tell instruments apart and may name a company or a kind.
    """
    texts = [text for text in column.cast(pl.String).str.strip_chars().unique() if text]
    return len(texts) > 1 and all(map(_is_symbol, texts))


def _is_symbol(text: str) -> bool:
    try:
        parse_symbol(text)
    except InvalidKeyError:
        return False
    small = sum(letter.islower() for letter in text)
    # Small letters are allowed because Refinitiv writes BRKb.N and CLc1.
    return small == 0 or small < sum(letter.isupper() for letter in text)


def check_one_instrument(table: Table, found: Mapping[str, int], layout: Layout) -> None:
    """Check that no column of words, apart from the columns in `found` (places by role), tells instruments apart.

    Raises:
        AmbiguousBarFile: when one does: prices differ at the same times, but form one series per value of the column.
    """
    if "symbol" in found and layout is not BY_NAME and not layout.is_guessed:
        return
    others = [place for place in range(len(table.names)) if place not in found.values()]
    words = [
        place for place in others if table.names[place] not in layout.only and _holds_words(table.cells[str(place)])
    ]
    if not words:
        return
    key = [str(place) for role, place in found.items() if role in ("ts", "date", "time", "symbol", "timeframe")]
    prices = [str(found[role]) for role in PRICES if role in found]
    # Rows without a time or prices are not bars.
    rows = table.cells.drop_nulls([*key, *prices])
    for name, values in layout.only.items():
        rows = rows.filter(pl.col(str(table.names.index(name))).is_in(values))
    rows = _contradicting(rows, key, prices)
    for place in words if rows.height else ():
        column = rows[str(place)].cast(pl.String)
        is_told = column.null_count() == 0 and not (column.str.strip_chars() == "").any()
        if is_told and _contradicting(rows, [*key, str(place)], prices).height * _ONE_OF <= rows.height:
            raise _several_instruments(table, found, place, column)


def _holds_words(column: pl.Series) -> bool:
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return False
    texts = column.cast(pl.String).drop_nulls().unique(maintain_order=True).head(_SAMPLED_VALUES).to_list()
    return len(texts) > 1 and numbers_of(texts) == 0


def _contradicting(rows: pl.DataFrame, key: Sequence[str], prices: Sequence[str]) -> pl.DataFrame:
    """Return the rows for which another row has the same `key` and other `prices`."""
    repeated = rows.filter(pl.struct(key).is_duplicated())
    return repeated.filter(pl.struct(prices).n_unique().over(key) > 1) if repeated.height else repeated


def _several_instruments(table: Table, found: Mapping[str, int], place: int, column: pl.Series) -> AmbiguousBarFile:
    name = table.heads[-1][place].strip() or f"number {place + 1}"
    first, second = column.unique(maintain_order=True)[:2]
    readings = []
    for role, evidence in (
        ("symbol", f"with {name} as the symbol"),
        (IGNORED, f"without {name}, of rows with the same time the last one"),
    ):
        by_place = {each: of for of, each in found.items()} | {place: role}
        if role == IGNORED or ("symbol" not in found and all(map(_is_symbol, column.unique()))):
            columns = ",".join(by_place.get(each, IGNORED) for each in range(len(table.names)))
            readings.append(FileReading(evidence, (("columns", columns),)))
    return AmbiguousBarFile(
        f"it holds several instruments: the same times have other prices where its column {name} says {first} than "
        f"where it says {second}; call the column that has symbols `symbol`, or give one file per instrument",
        readings,
    )


def _symbols(bars: pl.DataFrame, sources: KeySources, named: Named) -> tuple[pl.Series, str]:
    given = sources.options.symbol

    def spelled(text: str) -> str:
        symbol = parse_symbol(sources.spelling((sources.layout.symbol or str)(text)))
        # A word in small letters may be an existing symbol in capitals, as in the name of a file.
        is_known = symbol in sources.known or not symbol.islower() or symbol.upper() not in sources.known
        return symbol if is_known else symbol.upper()

    if sources.symbols is not None:
        texts = sources.symbols.cast(pl.String).str.strip_chars().unique(maintain_order=True).to_list()
        if given is None:
            # What a layout converts must be a symbol; other texts may be spellings of another vendor.
            checked = parse_symbol if sources.layout.symbol is not None else str
            column = _parsed(bars, sources.symbols, lambda text: spelled(checked(text)))
            return column, _origin("its column", [each for each in texts if each is not None], sources)
        # They may be no symbols, as `AAPL US Equity`, which is why the option is given.
        if len(texts) > 1:
            raise BarFileError(f"`--symbol {given}` cannot be: it holds {len(texts)} symbols in a column")
        return _all(bars, given), "--symbol" + (f"; the file says {texts[0]}" if texts and texts[0] != given else "")
    for text, origin in (
        (given, "--symbol"),
        (sources.beside.get("symbol"), "the file"),
        (_listed(named, sources.layout), "the name of the file"),
    ):
        if text is not None:
            try:
                symbol = text if text == given else spelled(text)
            except InvalidKeyError as error:
                raise BarFileError(f"{error}; give `--symbol`") from None
            return _all(bars, symbol), origin if text == given else _origin(origin, [text], sources)
    raise AmbiguousBarFile(
        "says nowhere which symbol its bars are of",
        [
            *(FileReading(f"as {each}, of the file's name", (("symbol", each),)) for each in named.candidates[:_SHOWN]),
            FileReading("with its symbol, or with a name such as AAPL_5m.csv", (("symbol", "SYMBOL"),)),
        ],
    )


def _origin(origin: str, texts: Sequence[str], sources: KeySources) -> str:
    """Return where symbols come from, with the first of `texts` that is written in another way here."""
    other = next((text for text in texts if sources.spelling(text) != text), None)
    return f"{origin}, which says {other}" if other is not None else origin


def _listed(named: Named, layout: Layout) -> str | None:
    """Return the symbol in a name, after the exchange that the name says, unless the layout implies the exchange."""
    if named.symbol is None or named.exchange is None or layout.calendar is not None:
        return named.symbol
    return f"{named.exchange}:{named.symbol}"


def _all(bars: pl.DataFrame, value: str) -> pl.Series:
    return pl.Series([value], dtype=pl.String).new_from_index(0, bars.height)


def _parsed(bars: pl.DataFrame, column: pl.Series, parse: Callable[[str], str]) -> pl.Series:
    text = column.cast(pl.String).str.strip_chars()
    distinct = text.unique(maintain_order=True)
    keys = []
    for value in distinct:
        try:
            keys.append(parse(value or ""))
        except InvalidKeyError as error:
            line = bars[LINE][text.to_list().index(value)]
            raise BarFileError(f"line {line}: {error}") from None
    return text.replace_strict(distinct, keys, return_dtype=pl.String) if len(distinct) else text


def _timeframes(bars: pl.DataFrame, sources: KeySources, named: Named) -> tuple[pl.Series, str]:
    given = sources.options.timeframe
    if given is not None:
        return _all(bars, given), "--timeframe"
    if sources.timeframes is not None:
        return _parsed(bars, sources.timeframes, _timeframe), "its column"
    beside, of_layout = sources.beside.get("timeframe"), sources.layout.timeframe
    if beside is not None and (key := timeframe_key(beside)):
        return _all(bars, key), "the file"
    if of_layout is not None:
        return _all(bars, of_layout), f"its layout, {sources.layout.name}"
    found = spacing(bars, "wall")
    if named.timeframe_seconds is not None:
        timeframe = timeframe_of(named.timeframe_seconds)
        if timeframe is not None:
            return _all(bars, timeframe.key), "the name of the file"
    return _all(bars, _from_spacing(bars, found).key), "the distance of its bars" if found else "a date without a time"


def _timeframe(text: str) -> str:
    return timeframe_key(text) or parse_timeframe(text).key


def _from_spacing(bars: pl.DataFrame, found: Spacing | None) -> Timeframe:
    clocks = bars["wall"].drop_nulls().dt.time().unique()
    is_daily = bool((bars["wall"].dt.truncate("1d") == bars["wall"]).all())
    # Daily bars may be labelled with the hour of the open or the close.
    is_daily = is_daily or (len(clocks) == 1 and found is not None and found.seconds % _DAY == 0)
    if found is not None and found.is_clear and found.timeframe is not None:
        return found.timeframe
    if is_daily and (found is None or not found.is_clear or found.seconds < _WEEK):
        return by_key("1d")
    if found is not None and found.is_clear:
        raise BarFileError(f"its bars are {found} apart; {_allowed(found)}")
    raise AmbiguousBarFile(
        f"says nowhere which timeframe its bars have, and they are too few to tell; timeframes are {ALL_TIMEFRAMES}",
        [FileReading("with its timeframe, or with a name such as AAPL_5m.csv", (("timeframe", "TIMEFRAME"),))],
    )


def _allowed(found: Spacing) -> str:
    if found.seconds >= _WEEK:
        return "weeks and months are rolled up from 1d bars here, so ingest those"
    return f"timeframes are {ALL_TIMEFRAMES}"


def _check_spacing(timeframe: Timeframe, found: Spacing | None, origin: str) -> None:
    """Refuse bars that cannot be of `timeframe` because they are closer together, or always further apart."""
    if found is None or not found.is_clear:
        return
    length = int(timeframe.duration.total_seconds())
    is_certain = found.of >= _CERTAIN
    other = found.timeframe
    is_longer = is_certain and found.seconds >= _WEEK
    if found.seconds < length or is_longer:
        allowed = "" if other is not None and other is not timeframe else f"; {_allowed(found)}"
    elif (
        is_certain
        and found.seconds > length
        and not timeframe.is_session
        and other
        and origin == "the name of the file"
    ):
        allowed = ""
    else:
        return
    message = f"its bars are {found} apart, which {timeframe.key} bars ({origin}) are not"
    if other is not None and other is not timeframe:
        raise AmbiguousBarFile(message, [FileReading(f"as {other.key} bars they fit", (("timeframe", other.key),))])
    raise BarFileError(message + allowed)
