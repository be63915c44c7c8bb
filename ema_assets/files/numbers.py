"""Prices and volumes from text: decimal signs, thousands, currencies, units. Does not know layouts or bars."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ema_assets.files.cells import MISSING_MARKS
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading

# Characters to remove: spaces, also thin and narrow ones between thousands, and currencies before or after a number.
_BARE = r"[\s\u00a0\u2009\u202f$€£¥₹%]|(?i:usd|eur|gbp|inr|rs\.?)"
# Units as exponents, because a product would not be the nearest double to 0.514449M.
_UNITS = {"k": "e3", "m": "e6", "b": "e9", "t": "e12"}
# Groups of thousands, by separator. Indian groups have two digits (12,34,567).
_GROUPED = {",": r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}", ".": r"[1-9]\d{0,2}(?:\.\d{3})+", "'": r"[1-9]\d{0,2}(?:'\d{3})+"}
_THOUSANDS = {".": ",", ",": "."}
# A reading of a file's prices is wrong when it makes their range this many times wider than another one, as a decimal
# comma does for 985 and 1,002.
_FAR_APART = 50.0
# Fractions in prices of futures: eighths for grains (450'5), 32nds for bonds (111'04), halves and quarters of these
# (111'04+).
_FRACTION = r"^[-+]?\d+'[\d+/.]+$"
_ONE_GROUP = r"^[-+]?[1-9]\d{0,2}'\d{3}$"
# The last three digits as 32nds, the last of which stands for quarters: 0, 2 (.25), 5 (.5) or 7 (.75).
_IN_32NDS = r"'(?:[0-2]\d|3[01])[0257]$"
_QUARTERS = {"0": 0.0, "2": 0.25, "5": 0.5, "7": 0.75}
# Dates of countries that separate thousands by points. A time with a fraction of a second would show a decimal point.
_DOTTED_DAY = r"^\d{1,2}\.\d{1,2}\.(?:\d{4}|\d{2})(?:,?\s+\d{1,2}:\d{2}(?::\d{2})?)?$"


@dataclass(frozen=True, slots=True)
class _Shown:
    """Evidence of the decimal sign in texts: the first text of each kind, or None.

    Attributes:
        point: A text that is a number only with a decimal point, such as `100.01` or `1,234,567`.
        comma: A text that is a number only with a decimal comma.
        either: A text that is a number with either, such as `1,234` or `1.234`.
    """

    point: str | None = None
    comma: str | None = None
    either: str | None = None

    @property
    def sign(self) -> str | None:
        """The decimal sign that the texts show; None when they show none or both."""
        if (self.point is None) == (self.comma is None):
            return None
        return "." if self.point is not None else ","


def is_missing(column: str) -> pl.Expr:
    """Return where a text column says that there is no number."""
    return pl.col(column).str.strip_chars().str.to_lowercase().is_in(MISSING_MARKS).fill_null(True)


def read_numbers(
    frame: pl.DataFrame,
    prices: Mapping[str, str],
    volume: str | None,
    decimal: str | None,
    *,
    are_by_commas: bool = False,
) -> tuple[dict[str, pl.Series], str]:
    """Read the numbers in the columns `prices` (by role) and `volume` of `frame`.

    Text that is not a number becomes null. K, M, B and T are units of volumes only. All prices have the same decimal
    sign: `decimal` if given, otherwise the one that the text shows. The volume has the same sign, unless its text shows
    the other one. With `are_by_commas`, the cells were separated by commas. Otherwise dates with points are searched in
    all columns of `frame`: countries that write such dates use the comma as the decimal sign, not as a delimiter.

    Returns:
        The numbers by role, Float64, and the decimal sign of the prices, or of the volume when there are no prices.

    Raises:
        AmbiguousBarFile: when a comma or point may be the decimal sign or a thousands separator, or both signs occur.
        BarFileError: when a column has neither numbers nor text, prices are or may be fractions, or `decimal` cannot be
            the sign of the prices.
    """
    columns = {**prices, **({"volume": volume} if volume is not None else {})}
    _check_types(frame, columns)
    plain = {name: _as_float(frame[name]) for name in columns.values()}
    texts = [name for name in plain if frame.schema[name] == pl.String and not _is_all_read(frame, name, plain[name])]
    has_dots = not are_by_commas and _has_dotted_days(frame)
    if not texts and decimal != "," and (decimal == "." or not has_dots):
        # In most files, all text is numbers with a decimal point, or without a decimal sign.
        signs = (".", ".")
    else:
        signs = _signs(frame, prices, volume, decimal, has_dots=has_dots)
    found = {}
    for role, name in columns.items():
        sign = signs[role == "volume"]
        if frame.schema[name] != pl.String or (sign == "." and name not in texts):
            found[role] = plain[name]
        else:
            found[role] = frame.select(_number(_bare(name), sign, has_unit=role == "volume")).to_series()
    # No vendor means a number by NaN in a column of volumes.
    if "volume" in found:
        found["volume"] = found["volume"].fill_nan(None)
    return found, signs[0] if prices else signs[1]


def _as_float(column: pl.Series) -> pl.Series:
    """Return `column` as Float64. A single-precision number keeps its decimal digits: 101.3, not 101.30000305."""
    if column.dtype == pl.Float32:
        column = column.cast(pl.String)
    return column.cast(pl.Float64, strict=False)


def _check_types(frame: pl.DataFrame, columns: Mapping[str, str]) -> None:
    # In a file with one price per row, its column has four roles. The last one, close, is named.
    for name, role in {name: role for role, name in columns.items()}.items():
        dtype = frame.schema[name]
        if not (dtype.is_numeric() or dtype in (pl.String, pl.Null)):
            raise BarFileError(f"`{role}` must be numbers or text, its column holds {dtype}")


def _is_all_read(frame: pl.DataFrame, name: str, plain: pl.Series) -> bool:
    """Return whether `plain`, the column as floats, has a number for every text that is not a mark of a missing one."""
    return not plain.null_count() or bool(frame.select((is_missing(name) | pl.lit(plain).is_not_null()).all()).item())


def _has_dotted_days(frame: pl.DataFrame) -> bool:
    firsts = frame.select(pl.col(pl.String).drop_nulls().first()).row(0) if frame.height else ()
    return bool(pl.Series(firsts, dtype=pl.String).str.strip_chars().str.contains(_DOTTED_DAY).any())


def _bare(name: str) -> pl.Expr:
    """Return the text of a number without currency, spaces and the apostrophe that marks text in an Excel cell."""
    text = pl.col(name).str.replace_all(_BARE, "").str.replace_all("\u2019", "'", literal=True)
    return text.str.strip_chars("'").str.to_lowercase()


def _grammar(sign: str) -> str:
    """Return the pattern of numbers with this decimal sign, with or without separated thousands."""
    mark = rf"\{sign}"
    whole = "|".join([r"\d+", _GROUPED[_THOUSANDS[sign]], _GROUPED["'"]])
    return rf"^[-+]?(?:(?:{whole})(?:{mark}\d*)?|{mark}\d+)(?:e[-+]?\d+)?$"


def _number(bare: pl.Expr, sign: str, *, has_unit: bool = False) -> pl.Expr:
    digits = bare.str.strip_chars_end("kmbt") if has_unit else bare
    plain = digits.str.replace_all(rf"[\{_THOUSANDS[sign]}']", "").str.replace(sign, ".", literal=True)
    is_number = digits.str.contains(_grammar(sign))
    if not has_unit:
        return pl.when(is_number).then(plain.cast(pl.Float64, strict=False))
    unit = bare.str.extract(r"\d[.,]?([kmbt])$", 1)
    # Two letters are not a unit.
    is_one = (bare.str.len_chars() - digits.str.len_chars()) <= 1
    exponent = unit.replace_strict(_UNITS, default="", return_dtype=pl.String).fill_null("")
    return pl.when(is_number & is_one).then(pl.concat_str(plain, exponent).cast(pl.Float64, strict=False))


def _signs(
    frame: pl.DataFrame, prices: Mapping[str, str], volume: str | None, decimal: str | None, *, has_dots: bool
) -> tuple[str, str]:
    """Return the decimal signs of the prices and of the volume."""
    names = [name for name in dict.fromkeys(prices.values()) if frame.schema[name] == pl.String]
    none = pl.Series("x", [], dtype=pl.String)
    price_texts = pl.concat([frame.select(_bare(name).alias("x")).to_series().drop_nulls() for name in names] or [none])
    volume_texts = none
    if volume is not None and frame.schema[volume] == pl.String:
        volume_texts = frame.select(_bare(volume).alias("x")).to_series().drop_nulls().str.strip_chars_end("kmbt")
    _check_apostrophes(price_texts, volume_texts)
    of_prices, of_volume = _shown(price_texts), _shown(volume_texts)
    if decimal is not None:
        if of_prices.sign not in (None, decimal):
            wrong = of_prices.point or of_prices.comma
            raise BarFileError(f"`--decimal {decimal}` cannot be: {wrong} is among its prices")
        return decimal, of_volume.sign or decimal
    _check_one_sign(of_prices, "prices")
    _check_one_sign(of_volume, "volumes")
    sign = of_prices.sign or of_volume.sign
    unclear = [text for text in (of_prices.either, of_volume.either) if text is not None]
    if sign is None and unclear:
        commas = [text for text in unclear if "," in text]
        # Without other evidence, a point is the decimal sign, as in the output of most programs.
        if commas or has_dots:
            sign = _by_their_size(price_texts, (commas or unclear)[0])
    return sign or ".", of_volume.sign or sign or "."


def _check_one_sign(shown: _Shown, what: str) -> None:
    """Raise AmbiguousBarFile when texts show both decimal signs."""
    if shown.point is not None and shown.comma is not None:
        raise AmbiguousBarFile(
            f"its {what} have both decimal signs: {shown.point} and {shown.comma}",
            [
                FileReading(f"with `--decimal .` {shown.comma} is no number", (("decimal", "."),)),
                FileReading(f"with `--decimal ,` {shown.point} is no number", (("decimal", ","),)),
            ],
        )


def _shown(texts: pl.Series) -> _Shown:
    x = pl.col("x")
    frame = pl.DataFrame({"x": texts}).filter(x.str.contains(r"[.,]"))
    frame = frame.with_columns(
        x.str.contains(_grammar(".")).alias("point"), x.str.contains(_grammar(",")).alias("comma")
    )
    point, comma = pl.col("point"), pl.col("comma")
    kinds = (point & ~comma, comma & ~point, point & comma)
    return _Shown(*frame.select(x.filter(kind).first().alias(str(place)) for place, kind in enumerate(kinds)).row(0))


def _by_their_size(prices: pl.Series, shown: str) -> str:
    """Return the sign with which the prices of a file are close together; raise AmbiguousBarFile when both are."""
    texts = pl.DataFrame({"x": prices})
    narrow = _narrower({sign: texts.select(_number(pl.col("x"), sign)).to_series() for sign in (".", ",")})
    if narrow is not None:
        return narrow
    mark = "," if "," in shown else "."
    thousand, decimal = shown.replace(mark, ""), shown.replace(",", ".")
    readings = {".": decimal, ",": thousand} if mark == "." else {".": thousand, ",": decimal}
    raise AmbiguousBarFile(
        f"the {'comma' if mark == ',' else 'point'} in its numbers may set thousands apart or be the decimal sign",
        [
            FileReading(f"with `--decimal {sign}` {shown} is {value}", (("decimal", sign),))
            for sign, value in readings.items()
        ],
    )


def _narrower(readings: Mapping[str, pl.Series]) -> str | None:
    """Return the reading whose values are much closer together, as prices of one file are; None when neither is."""
    spread = {}
    for name, values in readings.items():
        positive = values.filter(values > 0)
        spread[name] = float(positive.max() / positive.min()) if len(positive) else 1.0  # type: ignore[operator,arg-type]
    narrow, wide = sorted(spread, key=lambda name: spread[name])
    return narrow if spread[wide] > _FAR_APART * spread[narrow] else None


def _check_apostrophes(prices: pl.Series, volumes: pl.Series) -> None:
    """Refuse prices whose apostrophe does not, or may not, separate thousands. No option says that they are fractions.

    Raises:
        BarFileError: when there is such a price. The message names the first one and says what to write instead.
    """
    marked = prices.filter(prices.str.contains("'", literal=True))
    if marked.is_empty():
        return
    is_number = marked.str.contains(_grammar(".")) | marked.str.contains(_grammar(","))
    fractions = marked.filter(~is_number & marked.str.contains(_FRACTION))
    if len(fractions):
        raise BarFileError(_no_fractions(fractions[0]))
    numbers = marked.filter(is_number)
    groups = numbers.filter(numbers.str.contains(_ONE_GROUP))
    shows_thousands = (
        len(groups) < len(numbers)
        or not bool(groups.str.contains(_IN_32NDS).all())
        or bool(volumes.str.contains(r"\d'\d{3}").any())
    )
    if groups.is_empty() or shows_thousands:
        return
    texts = pl.DataFrame({"x": prices})
    points = pl.col("x").str.replace(r"'\d{3}$", "")
    readings = {"thousands": pl.col("x"), "fractions": points}
    narrow = _narrower({name: texts.select(_number(text, ".")).to_series() for name, text in readings.items()})
    if narrow == "thousands":
        return
    if narrow == "fractions":
        raise BarFileError(_no_fractions(groups[0]))
    shown = groups[0]
    whole, tail = shown.split("'")
    value = abs(int(whole)) + (int(tail[:2]) + _QUARTERS[tail[2]]) / 32
    raise BarFileError(
        f"its prices, such as {shown}, may have thousands set apart or be points and 32nds, and no other value shows "
        f"which; write {whole}{tail} for the first, {'-' * whole.startswith('-')}{value} for the second"
    )


def _no_fractions(shown: str) -> str:
    return f"its prices, such as {shown}, are fractions, which are not read; write them as decimal numbers"
