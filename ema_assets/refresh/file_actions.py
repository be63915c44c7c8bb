"""Corporate actions between stored bars and files that overlap little or not at all; dividend adjustment in files."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.market import corporate_actions, dividend_adjustment
from ema_assets.market.corporate_actions import COMPARED_SCHEMA, CONFIRMING_BARS, RESCALED
from ema_assets.model.schemas import UTC_TIME
from ema_assets.refresh.answers import Storing
from ema_assets.refresh.screen_answer import Screening, StoredBars
from ema_assets.store import action_facts

# As `action_facts.factors` returns them.
NO_FACTS = pl.DataFrame(
    schema={"symbol": pl.String(), "effective_at": UTC_TIME, "ratio": pl.Float64(), "kind": pl.String()}
)
# Prices also move overnight, so the step of a price may differ from the ratio of an action. It counts as the step of
# the action if the logarithms differ by at most this, and by at most half the logarithm of the ratio.
_STEP_WITHIN = math.log(1.1)
# The largest difference between the logarithms of equal ratios.
_SAME = 1e-9
_IMPORT = "`ema-assets actions import`"


def judged(
    confirmed: pl.DataFrame,
    compared: pl.DataFrame,
    facts: pl.DataFrame,
    stored: pl.DataFrame,
    served: pl.DataFrame,
    locked: pl.DataFrame,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the certain changes of scale in files (COMPARED_SCHEMA) and, by symbol, why nothing of a file is stored.

    A change that only a few bars show is certain if a fact explains it. Without a fact, a file that goes beyond the
    stored bars is refused, because storing it would leave a cliff. Prices that differ as those with and without
    adjustment for dividends do are not on another scale. They are refused, too.

    Args:
        confirmed: COMPARED_SCHEMA, the changes that bars alone make certain.
        compared: COMPARED_SCHEMA, everything that differs by a factor.
        facts: symbol, effective_at, ratio, kind.
        stored: symbol, ts, close, volume of the stored bars.
        served: symbol, ts, close, volume of the file.
        locked: symbol, first_ts, last_ts of all stored bars.
    """
    if stored.is_empty():
        return confirmed, {}
    # A single bar is a correction if the others that are stored, too, are equal.
    is_all = (pl.col("agreeing") > 1) | (pl.col("bars") == 1)
    few = corporate_actions.suspected(compared).filter(pl.col("kind") != RESCALED, is_all)
    few = few.join(confirmed, on="symbol", how="anti")
    few = few.join(_going_on(stored, served, locked), on="symbol", how="semi")
    known = few.join(told_by_facts(few, facts), on="symbol", how="semi")
    refused = {row["symbol"]: _few_sentence(row) for row in few.join(known, on="symbol", how="anti").to_dicts()}
    confirmed = pl.concat([confirmed, known])
    # A change that a split or a fact explains is certain, however small it is.
    explained = confirmed.filter(pl.col("kind") != RESCALED)["symbol"].to_list()
    adjusted = dividend_adjustment.differences(stored, served).filter(~pl.col("symbol").is_in([*explained, *refused]))
    refused |= {row["symbol"]: _dividend_sentence(row) for row in adjusted.to_dicts()}
    return confirmed.join(adjusted, on="symbol", how="anti"), refused


def between(storing: Storing, stored: StoredBars, screening: Screening) -> pl.DataFrame:
    """Return the facts after the newest stored bar for a file or answer that begins after it: COMPARED_SCHEMA.

    If the price steps by the ratio of all that are between both, of all up to the end of the file, for which it is
    adjusted, or of one, the stored bars are on the scale before. Otherwise, they have already been adjusted, and the
    facts are left out.
    """
    nothing = COMPARED_SCHEMA.to_frame()
    served = _sharing_none(stored, screening)
    if served.is_empty():
        return nothing
    first = served.group_by("symbol").agg(pl.col("ts", "open").sort_by("ts").first(), end_ts=pl.col("ts").max())
    last = stored.context.join(first.select("symbol", first_ts="ts"), on="symbol")
    is_beyond = (pl.col("ts") < pl.col("first_ts")).all().over("symbol")
    last = last.filter(is_beyond).group_by("symbol").agg(pl.col("ts", "close").sort_by("ts").last())
    if last.is_empty():
        return nothing
    facts = action_facts.factors(storing.transaction, last["symbol"].to_list())
    near = (
        facts.join(last.select("symbol", "close", last_ts="ts"), on="symbol")
        .join(first.rename({"ts": "first_ts"}), on="symbol")
        .filter(
            pl.col("effective_at") > pl.col("last_ts"),
            pl.col("effective_at").dt.date() <= pl.col("end_ts").dt.date(),
            (pl.col("open") > 0) & (pl.col("close") > 0),
        )
        .sort("symbol", "effective_at")
        .group_by("symbol", "first_ts", "close", "open", maintain_order=True)
        .agg(
            "kind",
            ratios="ratio",
            before=(pl.col("effective_at").dt.date() <= pl.col("first_ts").dt.date()).sum(),
        )
    )
    rows = []
    for symbol, first_ts, close, opened, kinds, ratios, before in near.iter_rows():
        told = list(zip(ratios, kinds, strict=True))
        for each in (told[:before], told, *([one] for one in reversed(told))):
            if each and (scale := _stepped_by(close / opened, each)) is not None:
                rows.append(_told_by_fact(symbol, *scale, first_ts - timedelta(microseconds=1)))
                break
    return pl.DataFrame(rows, schema=COMPARED_SCHEMA, orient="row")


def ahead(storing: Storing, stored: StoredBars, screening: Screening) -> pl.DataFrame:
    """Return the facts after a file that ends before stored bars and shares none with them: COMPARED_SCHEMA.

    Stored bars are on today's scale. If the price steps from the file to the next stored bar by the ratio of all later
    facts, the file has prices as they traded and is to be converted to the stored scale. Otherwise, it has already been
    adjusted, and the facts are left out.
    """
    nothing = COMPARED_SCHEMA.to_frame()
    served = _sharing_none(stored, screening)
    if served.is_empty():
        return nothing
    last = served.group_by("symbol").agg(pl.col("ts", "close").sort_by("ts").last())
    later = stored.context.join(last.select("symbol", ends="ts"), on="symbol").filter(pl.col("ts") > pl.col("ends"))
    if later.is_empty():
        return nothing
    following = later.group_by("symbol").agg(pl.col("close").sort_by("ts").first().alias("next"))
    facts = action_facts.factors(storing.transaction, following["symbol"].to_list())
    found = (
        facts.join(last, on="symbol")
        .join(storing.locked.select("symbol", newest_ts="last_ts"), on="symbol")
        .filter(pl.col("effective_at") > pl.col("ts"), pl.col("effective_at") <= pl.col("newest_ts"))
        .sort("symbol", "effective_at")
        .group_by("symbol", "ts", "close")
        .agg("kind", ratios="ratio")
        .join(following, on="symbol")
        .filter((pl.col("close") > 0) & (pl.col("next") > 0))
    )
    rows = []
    for symbol, ts, close, kinds, ratios, next_close in found.iter_rows():
        scale = _stepped_by(close / next_close, list(zip(ratios, kinds, strict=True)))
        if scale is not None:
            rows.append(_told_by_fact(symbol, *scale, ts))
    return pl.DataFrame(rows, schema=COMPARED_SCHEMA, orient="row")


def _sharing_none(stored: StoredBars, screening: Screening) -> pl.DataFrame:
    """Return the file's bars of the series that share no bar with the stored ones; none if `context` is empty."""
    served = screening.bars.join(stored.within.select("symbol").unique(), on="symbol", how="anti")
    return served.clear() if stored.context.is_empty() else served


def _stepped_by(step: float, facts: Sequence[tuple[float, str]]) -> tuple[float, str, float] | None:
    """Return ratio, kind and ratio of volumes of all `facts` (ratio, kind) together if the price `step` is theirs."""
    ratio = math.prod(each for each, _ in facts)
    if abs(math.log(step / ratio)) > min(_STEP_WITHIN, abs(math.log(ratio)) / 2):
        return None
    volume = math.prod(corporate_actions.volume_ratio(*each, None) for each in facts)
    return ratio, facts[0][1], volume


def _told_by_fact(symbol: str, ratio: float, kind: str, volume: float, last_ts: datetime) -> tuple[object, ...]:
    """Return a row of COMPARED_SCHEMA that only a fact tells of, because there are no bars to compare."""
    return symbol, ratio, corporate_actions.name_of(ratio), kind, volume, 0, 0, 0, last_ts, 0


def _going_on(stored: pl.DataFrame, served: pl.DataFrame, locked: pl.DataFrame) -> pl.DataFrame:
    """Return the symbols whose bars in the file begin before or end after all stored ones; arguments as in `judged`."""
    span = served.group_by("symbol").agg(begins=pl.col("ts").min(), ends=pl.col("ts").max())
    goes_on = (pl.col("begins") < pl.col("first_ts")) | (pl.col("ends") > pl.col("last_ts"))
    of_stored = locked.select("symbol", "first_ts", "last_ts").join(stored, on="symbol", how="semi")
    return of_stored.join(span, on="symbol").filter(goes_on).select("symbol")


def told_by_facts(compared: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Return what is not on today's scale, where a fact after the compared bars explains their ratio.

    Columns: symbol, told (a value of `off` in `corporate_actions.which_is_off`). `compared` is COMPARED_SCHEMA; `facts`
    has symbol, effective_at, ratio.
    """
    ratio, fact = pl.col("ratio").log(), pl.col("fact").log()
    off = (
        pl.when((ratio - fact).abs() <= _SAME)
        .then(pl.lit(corporate_actions.STORED_IS_OFF))
        .when((ratio + fact).abs() <= _SAME)
        .then(pl.lit(corporate_actions.FILE_IS_OFF))
    )
    return (
        compared.select("symbol", "ratio", "last_ts")
        .join(facts.select("symbol", "effective_at", fact="ratio"), on="symbol")
        .filter(pl.col("effective_at") > pl.col("last_ts"))
        .select("symbol", told=off)
        .drop_nulls()
        .unique("symbol", keep="last", maintain_order=True)
    )


def _few_sentence(row: Mapping[str, Any]) -> str:
    bars = (
        "the only bar that is stored, too, is"
        if row["bars"] == 1
        else f"the {row['bars']} bars that are stored, too, are"
    )
    return (
        f"{bars} off by {row['split']}, as after a split; so few do not tell a split from a correction, and nothing of "
        f"it is stored. Ingest a file that overlaps by {CONFIRMING_BARS} bars or more, or import the split first: "
        f"{_IMPORT}"
    )


def _dividend_sentence(row: Mapping[str, Any]) -> str:
    steps = row["steps"]
    how = f"in {steps} steps" if steps > 1 else "all alike"
    return (
        f"{row['bars']} of its closes differ from the stored ones by up to {row['most_pct']:.3g} %, {how}, as prices "
        "with adjustment for dividends differ from those without; nothing of it is stored. Ingest prices that are "
        f"adjusted for splits only. If it was a spin-off, import it with its ratio first: {_IMPORT}"
    )
