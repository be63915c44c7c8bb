"""Prices and volumes from text: decimal signs, thousands, currencies, units. Knows nothing of columns or bars."""

from collections.abc import Mapping

import polars as pl

from ema_assets.files.cells import MISSING_MARKS
from ema_assets.model.errors import AmbiguousBarFile, FileReading

# Thin and narrow spaces and apostrophes set thousands apart, currencies stand before or behind.
_BARE = r"[\s\u00a0\u2009\u202f'\u2019$€£¥₹%]|(?i:usd|eur|gbp|inr|rs\.?)"
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_THOUSANDS = r"^[-+]?\d{1,3}(?:,\d{2,3})*,\d{3}$"
# How much further apart the prices of one file may be when a comma is read wrongly: 985 beside 1,002.
_FAR_APART = 50.0


def is_missing(column: str) -> pl.Expr:
    """Where a column of text says that there is no number."""
    return pl.col(column).str.strip_chars().str.to_lowercase().is_in(MISSING_MARKS).fill_null(True)


def read_numbers(
    frame: pl.DataFrame, prices: Mapping[str, str], volume: str | None, decimal: str | None
) -> tuple[dict[str, pl.Series], str]:
    """The numbers of columns of `frame`, by role: those of `prices` (column by role) and `volume`, as Float64.

    Text that is no number is null. All columns have one decimal sign: the one given as `decimal`, or the one that
    the text shows. Returned too is that sign.

    Raises:
        AmbiguousBarFile: when a comma may be the decimal sign or set thousands apart.
    """
    columns = {**prices, **({"volume": volume} if volume is not None else {})}
    texts = {role: frame[name] for role, name in columns.items() if frame.schema[name] == pl.String}
    sign = decimal or _decimal_sign(
        frame, [prices[role] for role in prices if role in texts], volume if "volume" in texts else None
    )
    found = {}
    for role, name in columns.items():
        column = frame[name]
        if role not in texts:
            found[role] = column.cast(pl.Float64, strict=False)
            continue
        plain = column.cast(pl.Float64, strict=False) if sign == "." else None
        missing = frame.select(is_missing(name)).to_series()
        if plain is not None and int(plain.null_count()) <= int((missing & plain.is_null()).sum()):
            found[role] = plain
        else:
            found[role] = frame.select(_number(name, sign)).to_series()
    # What no vendor means by NaN in a column of volumes is a number.
    if "volume" in found:
        found["volume"] = found["volume"].fill_nan(None)
    return found, sign


def _number(name: str, sign: str) -> pl.Expr:
    bare = pl.col(name).str.replace_all(_BARE, "").str.to_lowercase()
    bare = (
        bare.str.replace_all(",", "", literal=True)
        if sign == "."
        else (bare.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True))
    )
    unit = bare.str.extract(r"^[-+]?[\d.]+([kmbt])$", 1)
    value = bare.str.strip_chars_end("kmbt").cast(pl.Float64, strict=False)
    return value * unit.replace_strict(_UNITS, default=1.0, return_dtype=pl.Float64).fill_null(1.0)


def _decimal_sign(frame: pl.DataFrame, prices: list[str], volume: str | None) -> str:
    columns = [*prices, *([volume] if volume is not None else [])]
    commas = frame.select(pl.col(columns).str.contains(",", literal=True).any()) if columns else None
    if commas is None or not any(commas.row(0)):
        # Numbers with several points have them between thousands, and then there are no decimals to be seen.
        many = [name for name in columns if frame[name].str.contains(r"^\d{1,3}(\.\d{3}){2,}$").any()]
        return "," if many else "."
    bare = pl.concat([frame[name].drop_nulls().str.replace_all(_BARE, "").str.to_lowercase() for name in columns])
    with_comma = bare.filter(bare.str.contains(",", literal=True)).str.strip_chars_end("kmbt")
    both = with_comma.filter(with_comma.str.contains(".", literal=True))
    if len(both):
        last = both.str.contains(r",[^,]*\.\d*$")
        return "." if last.all() else ","
    if with_comma.str.contains(r",\d+,").any():
        return "."
    if not with_comma.str.contains(_THOUSANDS).all():
        return ","
    if any(frame[name].str.contains(r"\d\.\d").any() for name in columns):
        return "."
    return _by_their_size(frame, prices, with_comma[0])


def _by_their_size(frame: pl.DataFrame, prices: list[str], shown: str) -> str:
    """The sign by which the prices of a file are of one size; asked for when that does not tell."""
    spread = {}
    for sign in (".", ","):
        values = frame.select(pl.concat([frame.select(_number(name, sign)).to_series() for name in prices]).alias("x"))
        positive = values.filter(pl.col("x") > 0)["x"] if prices else pl.Series([], dtype=pl.Float64)
        spread[sign] = float(positive.max() / positive.min()) if len(positive) else 1.0  # type: ignore[operator,arg-type]
    narrow, wide = sorted(spread, key=lambda sign: spread[sign])
    if prices and spread[wide] > _FAR_APART * spread[narrow]:
        return narrow
    thousand, decimal = shown.replace(",", ""), shown.replace(",", ".")
    raise AmbiguousBarFile(
        "the comma in its numbers may set thousands apart or be the decimal sign",
        [
            FileReading(f"with `--decimal .` {shown} is {thousand}", (("decimal", "."),)),
            FileReading(f"with `--decimal ,` {shown} is {decimal}", (("decimal", ","),)),
        ],
    )
