"""Recognises from stored bars that are served again that a vendor has put a series on another scale. No I/O.

After a split, a vendor divides the whole history by its ratio, after a spin-off by some other number. So every bar that
is served again differs from the stored one by the same factor. Storing only the new bars would leave a cliff in the
series and cause a false trade.
"""

import math
from fractions import Fraction

import polars as pl

from ema_assets.model.schemas import PRICES, UTC_TIME

# Shares after per share before, as companies have split: forward splits, stock dividends, and the reverse of each. 100
# is left out on purpose: a bar that looks like it has pence for pounds.
FORWARD = [Fraction(n) for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50)]
_SMALL = [Fraction(text) for text in ("3/2", "4/3", "5/2", "5/3", "5/4", "6/5", "7/2", "7/5", "8/5", "9/4", "11/10")]
_REVERSE_ONLY = [Fraction(1, n) for n in (35, 60)]
RATIOS = tuple(sorted([*FORWARD, *_SMALL, *(1 / ratio for ratio in [*FORWARD, *_SMALL]), *_REVERSE_ONLY]))

# A factor is suspected if at least this many bars show it; one bar may do for a ratio of splits or of a known fact.
SUSPECTING_BARS = 2
# It is confirmed if at least this many bars show it, and nearly all of the compared ones.
CONFIRMING_BARS = 3
CONFIRMING_SHARE = 0.98

# The values of `kind`: a ratio that splits have, any other factor, and a level that was left for good while the vendor
# still serves the old bars unchanged. A fact has its own kind, such as `spin-off`.
SPLIT, RESCALED, LEVEL_SHIFT = "split", "rescaled", "level shift"

# Prices agree with a factor if they are within this much plus the rounding of both; rounding is at most _MOST_OFF.
_RELATIVE, _MOST_OFF = 1e-4, 0.04
# Fewer bars than this cannot show that prices are rounded to more than a cent, or tell a small factor from corrections.
_TELLING_BARS, _CENT = 8, 0.01
# Prices with more decimals than these are not rounded at all.
_MOST_DECIMALS = 10
# A bar supports a suspected factor if it differs from it by at most this share of the factor's logarithm.
_WINDOW = 0.25
# A factor is named after a fraction within this distance. A fact may be further away, because vendors round factors.
_NAMED_WITHIN, _FACT_WITHIN, _MOST_DENOMINATOR = 1e-4, 2e-3, 20

COMPARED_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "ratio": pl.Float64(),
        "split": pl.String(),
        "kind": pl.String(),
        "volume_ratio": pl.Float64(),
        "bars": pl.UInt32(),
        "agreeing": pl.UInt32(),
        "unchanged": pl.UInt32(),
        "last_ts": UTC_TIME,
        "older": pl.UInt32(),
    }
)

# Facts that explain a factor: symbol, ratio (old price over new), kind.
NO_FACTS = pl.DataFrame(schema={"symbol": pl.String(), "ratio": pl.Float64(), "kind": pl.String()})


def compare(
    stored: pl.DataFrame, served: pl.DataFrame, suspects: pl.DataFrame | None = None, facts: pl.DataFrame = NO_FACTS
) -> pl.DataFrame:
    """Compare served closes with stored ones: one row per symbol on another scale (COMPARED_SCHEMA), sorted by symbol.

    Args:
        stored: symbol, ts, close, volume of the stored bars.
        served: symbol, ts, close, volume of the bars that the vendor serves now.
        suspects: symbol, ratio, split of symbols whose factor is roughly known already; for all others it is the median
            factor of the bars that differ.
        facts: symbol, ratio, kind of known corporate actions. A factor near the ratio of a fact becomes that ratio.

    Returns:
        symbol, ratio (stored close over served close), split (its name: `7:1`, `1253:1000` or `factor 1.0046`), kind,
        volume_ratio (the factor for volumes), bars (how many were compared), agreeing (how many of them differ by that
        ratio, at least one), unchanged (how many up to last_ts do not differ), last_ts (the newest bar that agrees),
        older (how many were compared up to last_ts). Bars up to last_ts that were stored on the new scale do not count.
    """
    both = (
        stored.select("symbol", "ts", before="close", volume_before="volume")
        .join(served.select("symbol", "ts", now="close", volume_now="volume"), on=["symbol", "ts"], how="inner")
        .filter((pl.col("before") != pl.col("now")).any().over("symbol"))
    )
    if both.is_empty():
        return COMPARED_SCHEMA.to_frame()
    both = both.with_columns(
        (pl.col("before") / pl.col("now")).log().alias("factor"),
        *(_rounding(name).alias(f"{name}_rounding") for name in ("before", "now")),
        rounding=price_rounding("before", "now"),
    )
    ratios = _ratios(both, suspects, facts)
    agrees = (pl.col("factor") - pl.col("ratio").log()).abs() <= 2 * pl.col("rounding")
    traded = pl.col("volume_before") > 0, pl.col("volume_now") > 0, pl.col("agrees")
    compared = (
        both.join(ratios, on="symbol")
        .sort("symbol", "ts")
        .with_columns(agrees=agrees, is_unchanged=pl.col("factor").abs() <= pl.col("rounding"))
        .with_columns(newest=pl.col("ts").filter("agrees").max().over("symbol"), is_ahead=_is_ahead())
        .filter(~pl.col("is_ahead") | (pl.col("ts") > pl.col("newest")))
        .group_by("symbol", "ratio", "split", "kind")
        .agg(
            volumes=(pl.col("volume_now") / pl.col("volume_before")).filter(*traded).median(),
            bars=pl.len(),
            agreeing=pl.col("agrees").sum(),
            unchanged=(_is_same() & (pl.col("ts") <= pl.col("newest"))).sum(),
            last_ts=pl.col("newest").first(),
            older=(pl.col("ts") <= pl.col("newest")).sum(),
        )
        .filter(pl.col("agreeing") > 0)
        .sort("symbol")
    )
    volumes = [volume_ratio(*row) for row in compared.select("ratio", "kind", "volumes").iter_rows()]
    return (
        compared.with_columns(volume_ratio=pl.Series(volumes, dtype=pl.Float64()))
        .select(list(COMPARED_SCHEMA))
        .match_to_schema(COMPARED_SCHEMA)
    )


def _is_same() -> pl.Expr:
    return pl.col("is_unchanged") & ~pl.col("agrees")


def _is_ahead() -> pl.Expr:
    """Return whether a bar that is the same in store and as served was stored on the new scale, as from a file.

    Otherwise the vendor left it on the old scale, and its prices step by the ratio where such bars begin and end. This
    is evidence only where the ratio is larger than the usual moves.
    """
    is_border = (_is_same() & pl.col("agrees").shift(1)) | (pl.col("agrees") & _is_same().shift(1))
    is_small = (pl.col("now") / pl.col("now").shift(1)).log().abs() < pl.col("ratio").log().abs() / 2
    is_smooth = is_small.filter(is_border).all() & is_border.any() & (is_small.mean() >= CONFIRMING_SHARE)
    return _is_same() & is_smooth.over("symbol")


def volume_ratio(ratio: float, kind: str, measured: float | None) -> float:
    """Return the factor for the volumes of a series whose prices are divided by `ratio`: `ratio` or 1.

    A split multiplies shares; a spin-off or another currency does not. `measured` is the volume after over the volume
    before; without it the `kind` decides.
    """
    if measured is None:
        return ratio if kind == SPLIT else 1.0
    return ratio if abs(math.log(measured / ratio)) < abs(math.log(measured)) else 1.0


def rescaled(bars: pl.DataFrame, scales: pl.DataFrame) -> pl.DataFrame:
    """Return `bars` (symbol, ts, prices, volume) with those up to last_ts of `scales` (COMPARED_SCHEMA) rescaled."""
    columns = bars.columns
    joined = bars.join(
        scales.select("symbol", "ratio", "volume_ratio", "last_ts"), on="symbol", how="left", maintain_order="left"
    )
    is_old = pl.col("ts") <= pl.col("last_ts")
    return joined.with_columns(
        *(pl.when(is_old).then(pl.col(name) / pl.col("ratio")).otherwise(pl.col(name)).alias(name) for name in PRICES),
        pl.when(is_old).then(pl.col("volume") * pl.col("volume_ratio")).otherwise("volume").alias("volume"),
    ).select(columns)


def inverted(scales: pl.DataFrame) -> pl.DataFrame:
    """Return `scales` (COMPARED_SCHEMA) inverted, to convert served bars to the scale of the stored ones."""
    return scales.with_columns((1 / pl.col(name)).alias(name) for name in ("ratio", "volume_ratio"))


# The values of `off` for a file on another scale than the stored bars: which of them is not on today's scale.
STORED_IS_OFF, FILE_IS_OFF, UNCLEAR = "stored", "file", "unclear"


def which_is_off(
    confirmed: pl.DataFrame, stored: pl.DataFrame, served: pl.DataFrame, newest: pl.DataFrame, told: pl.DataFrame
) -> pl.DataFrame:
    """Decide for the `confirmed` changes of scale in files whether the file or the stored bars are on an old scale.

    The newest bars are on today's scale. A file that includes them sets the scale, unless the stored bars continue into
    them without a step where the file steps by the ratio. Then the file has prices as they traded, as does a file that
    ends before the newest stored bar.

    Args:
        confirmed: COMPARED_SCHEMA, files that are on another scale than the stored bars up to last_ts.
        stored: symbol, ts, close of the stored bars in the span of the file, and of the next one.
        served: symbol, ts, close of the file.
        newest: symbol, newest_ts of the newest stored bar.
        told: symbol, told: the value of `off` where a fact decides it.

    Returns:
        `confirmed` with `off`; last_ts is the end of the file if the whole file is off.
    """
    ends = served.group_by("symbol").agg(file_ts=pl.col("ts").max())
    joined = confirmed.join(ends, on="symbol", how="left").join(newest, on="symbol", how="left")
    joined = joined.join(_newer(confirmed, stored, served), on="symbol", how="left").join(told, "symbol", how="left")
    half = pl.col("ratio").log().abs() / 2
    # How much larger the step to the next bar is from the file than from the stored bars.
    further = (pl.col("step") + pl.col("ratio").log()).abs() - pl.col("step").abs()
    is_newest = pl.col("file_ts") >= pl.col("newest_ts")
    is_off_as_a_whole = pl.col("same").is_null() & ~is_newest
    off = (
        pl.when(pl.col("told").is_not_null())
        .then("told")
        .when(pl.col("step").is_null() | (further < -half))
        .then(pl.lit(STORED_IS_OFF))
        .when(is_off_as_a_whole | ((pl.col("same") >= CONFIRMING_SHARE) & (further > half)))
        .then(pl.lit(FILE_IS_OFF))
        .when(is_newest)
        .then(pl.lit(STORED_IS_OFF))
        .otherwise(pl.lit(UNCLEAR))
    )
    reach = pl.when(is_off_as_a_whole & (off == FILE_IS_OFF)).then("file_ts").otherwise("last_ts")
    return joined.with_columns(off=off, last_ts=reach).select(*COMPARED_SCHEMA, "off")


def _newer(confirmed: pl.DataFrame, stored: pl.DataFrame, served: pl.DataFrame) -> pl.DataFrame:
    """Return how the stored bars continue after last_ts of `confirmed`: symbol, step, same.

    `step` is the logarithm of the price change from the last bar to the next one, null without a next one. `same` is
    the share of newer bars that are equal in the file and in store, null if the two share no newer bar.
    """
    is_newer = pl.col("ts") > pl.col("last_ts")
    half = pl.col("ratio").log().abs() / 2
    is_same = (pl.col("before") / pl.col("now")).log().abs() <= half.clip(upper_bound=_MOST_OFF)
    return (
        stored.select("symbol", "ts", before="close")
        .join(served.select("symbol", "ts", now="close"), on=["symbol", "ts"], how="left")
        .join(confirmed.select("symbol", "last_ts", "ratio"), on="symbol")
        .sort("symbol", "ts")
        .group_by("symbol")
        .agg(
            step=(pl.col("before").filter(is_newer).first() / pl.col("before").filter(~is_newer).last()).log(),
            same=is_same.filter(is_newer).mean(),
        )
    )


def price_rounding(*names: str) -> pl.Expr:
    """Return by how much rounding alone can make the prices `names` of a bar differ: a logarithm, per symbol."""
    return pl.sum_horizontal(pl.lit(_RELATIVE), *map(_rounding, names)).clip(upper_bound=_MOST_OFF)


def _rounding(name: str) -> pl.Expr:
    return _half_step(name) / pl.col(name)


def _half_step(name: str) -> pl.Expr:
    """Return half a unit of the last decimal of a symbol's prices, the most by which rounding changes them."""
    price = pl.col(name)
    step = pl.lit(0.0)
    for decimals in reversed(range(_MOST_DECIMALS + 1)):
        scaled = price * 10.0**decimals
        # A float has 16 figures. A number that is whole except for the last of them was written with these decimals.
        is_whole = (scaled - scaled.round()).abs() <= 1e-12 * scaled.abs() + 1e-9
        step = pl.when(is_whole.all().over("symbol")).then(pl.lit(10.0**-decimals)).otherwise(step)
    # All of a few bars may be whole by chance.
    is_few = pl.len().over("symbol") < _TELLING_BARS
    return pl.when(is_few).then(step.clip(upper_bound=_CENT)).otherwise(step) / 2


def _ratios(both: pl.DataFrame, suspects: pl.DataFrame | None, facts: pl.DataFrame) -> pl.DataFrame:
    """Return the factor of each symbol that is on another scale: symbol, ratio, split, kind."""
    guesses = suspects if suspects is not None else pl.DataFrame(schema={"symbol": pl.String(), "ratio": pl.Float64()})
    guess = pl.col("guess").log()
    is_near = (pl.col("factor") - guess).abs() <= pl.max_horizontal("rounding", _WINDOW * guess.abs())
    differs = pl.col("factor").abs() > pl.col("rounding")
    estimates = (
        both.join(guesses.select("symbol", guess="ratio"), on="symbol", how="left")
        .filter(is_near.fill_null(differs))
        .with_columns(middle=pl.col("factor").median().over("symbol"))
        .filter((pl.col("factor") - pl.col("middle")).abs() <= 2 * pl.col("rounding"))
        .group_by("symbol")
        .agg(
            # A ratio of sums, in which rounding up and down evens out.
            ratio=pl.col("before").sum() / pl.col("now").sum(),
            # A few bars that were corrected by the same cent or two would look like a small factor.
            needed=pl.when((pl.len() < _TELLING_BARS) & pl.col("guess").is_null().all()).then(3.0).otherwise(1.0),
            # The largest error of both sums.
            off=_RELATIVE
            + (pl.col("before") * pl.col("before_rounding")).sum() / pl.col("before").sum()
            + (pl.col("now") * pl.col("now_rounding")).sum() / pl.col("now").sum(),
        )
        .filter(pl.col("ratio").log().abs() > pl.col("needed") * pl.col("off"))
    )
    known: dict[str, list[tuple[float, str]]] = {}
    for symbol, ratio, kind in facts.select("symbol", "ratio", "kind").iter_rows():
        known.setdefault(symbol, []).append((ratio, kind))
    rows = [
        (symbol, *_recognised(ratio, off, known.get(symbol, [])))
        for symbol, ratio, off in estimates.select("symbol", "ratio", "off").iter_rows()
    ]
    schema = {name: COMPARED_SCHEMA[name] for name in ("symbol", "ratio", "split", "kind")}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _recognised(ratio: float, off: float, facts: list[tuple[float, str]]) -> tuple[float, str, str]:
    """Return the true ratio, its name and its kind for a measured `ratio`, which may be `off` by this much."""
    for fact, kind in facts:
        if abs(math.log(ratio / fact)) <= max(off, _FACT_WITHIN):
            return fact, name_of(fact), kind
    nearest = min(RATIOS, key=lambda each: abs(math.log(ratio / each)))
    if abs(math.log(ratio / nearest)) <= off:
        return float(nearest), f"{nearest.numerator}:{nearest.denominator}", SPLIT
    named = _fraction(ratio)
    return (float(named), name_of(ratio), RESCALED) if named is not None else (ratio, name_of(ratio), RESCALED)


def name_of(ratio: float) -> str:
    """Return the name of any ratio: `7:1`, `1253:1000`, or `factor 1.00463` if it is near no fraction."""
    named = _fraction(ratio)
    if named is None:
        return f"factor {ratio:.5g}"
    forward = max(named, 1 / named)
    if forward.denominator > _MOST_DENOMINATOR:
        forward_terms = (int(forward * 1000), 1000)
    else:
        forward_terms = (forward.numerator, forward.denominator)
    return "{}:{}".format(*(forward_terms if named > 1 else forward_terms[::-1]))


def _fraction(ratio: float) -> Fraction | None:
    """Return `ratio` as a fraction of small numbers or of thousandths, or None if none is near."""
    forward = max(ratio, 1 / ratio)
    for candidate in (Fraction(forward).limit_denominator(_MOST_DENOMINATOR), Fraction(round(forward * 1000), 1000)):
        if candidate != 1 and abs(math.log(forward / candidate)) <= _NAMED_WITHIN:
            return candidate if ratio > 1 else 1 / candidate
    return None


def suspected(compared: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `compare` that are a reason to look at the whole history.

    All bars differ by the ratio, or all up to some time, if newer ones were already stored on the new scale. A single
    bar with another value is a correction, unless it is the oldest one and its ratio is one of splits or of a fact.
    """
    is_known = (pl.col("older") == 1) & (pl.col("kind") != RESCALED)
    is_enough = (pl.col("agreeing") >= SUSPECTING_BARS) | is_known
    return compared.filter((pl.col("agreeing") == pl.col("older")) & is_enough)


_IS_CONFIRMED = (pl.col("agreeing") >= CONFIRMING_BARS) & (pl.col("agreeing") >= CONFIRMING_SHARE * pl.col("older"))


def confirmed(compared: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `compare`, applied to the whole history, that are a change of scale.

    Newer bars may already be stored on the new scale. Up to the newest one on the old scale, nearly all must agree.
    """
    return compared.filter(_IS_CONFIRMED)


def half_done(compared: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `compare`, applied to the whole history, where the vendor left a part on the old scale.

    An arbitrary factor over a few bars, while the others are unchanged, is a correction of these bars.
    """
    is_sure = (pl.col("kind") != RESCALED) | (pl.col("agreeing") >= _TELLING_BARS)
    is_left = pl.col("unchanged") > (1 - CONFIRMING_SHARE) * pl.col("older")
    return compared.filter((pl.col("agreeing") >= CONFIRMING_BARS) & ~_IS_CONFIRMED & is_left & is_sure)
