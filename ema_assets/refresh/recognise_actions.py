"""Recognises corporate actions by comparing stored and served bars, and decides what follows for the answer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import polars as pl

from ema_assets.market import corporate_actions, several_scales, split_steps
from ema_assets.market.corporate_actions import COMPARED_SCHEMA, LEVEL_SHIFT, RESCALED
from ema_assets.model.schemas import SUSPECT_SCHEMA
from ema_assets.refresh import file_actions
from ema_assets.refresh.answers import Extent, Storing
from ema_assets.refresh.screen_answer import Screening, StoredBars
from ema_assets.store import action_facts

# A fact explains a level shift if it took effect within this time of it: vendors and calendars differ by some days.
_FACT_NEAR = timedelta(days=5)
# Prices may change between a currency and its hundredth, such as pounds and pence. A step whose logarithm is this near
# to that of 100 or 1/100 is such a change; the rest is a move of the price.
_HUNDRED, _HUNDRED_WITHIN = 100.0, math.log(1.1)


@dataclass(frozen=True, slots=True)
class RecognisedActions:
    """Changes of scale, as rows of `corporate_actions.compare`.

    Attributes:
        suspected: SUSPECT_SCHEMA, series of which nothing is stored and whose whole history is requested.
        confirmed: COMPARED_SCHEMA, series that are stored on a new scale.
        served: COMPARED_SCHEMA, by which bars of the answer are converted to the scale of their series: series whose
            answer has bars of both levels, and files that are not on the stored scale. A file over several splits has
            one row per split.
        refused: by symbol, why the series failed; nothing of it is stored.
    """

    suspected: pl.DataFrame
    confirmed: pl.DataFrame
    served: pl.DataFrame
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> list[str]:
        """The symbols for which nothing is stored."""
        return [*self.suspected["symbol"], *self.refused]


def recognise_actions(storing: Storing, stored: StoredBars, screening: Screening) -> RecognisedActions:
    """Return what the bars of an answer, or facts, show about the scale of their series.

    Series with prices of zero or less have no scale, and their bars are left as they were served.
    """
    answer = storing.answer
    free = storing.through_zero(screening.bars, stored.within, stored.context)
    kept = screening.screened.kept.filter(~pl.col("symbol").is_in(free.implode()))
    compared = corporate_actions.compare(stored.within, kept, answer.suspects)
    facts = file_actions.NO_FACTS
    if not compared.is_empty():
        facts = action_facts.factors(storing.transaction, compared["symbol"].to_list())
        if not facts.is_empty():
            compared = corporate_actions.compare(stored.within, kept, answer.suspects, facts)
    if answer.extent in (Extent.PART, Extent.GAP, Extent.OLDER):
        parts = [_oldest_scale(stored, kept, facts), _steps(storing, stored, screening)]
        if not compared.is_empty() or not screening.screened.shifts.is_empty():
            # The first part that has a symbol counts.
            parts = [
                corporate_actions.suspected(compared).select(list(SUSPECT_SCHEMA)),
                _shifted(storing, stored, screening).select(list(SUSPECT_SCHEMA)),
                *parts,
            ]
        suspected = pl.concat(parts).unique("symbol", keep="first").sort("symbol")
        return RecognisedActions(suspected, compared.clear(), compared.clear())
    refused: dict[str, str] = {}
    if answer.suspects is not None:
        half_done = corporate_actions.half_done(compared).join(answer.suspects, on="symbol", how="semi")
        refused = {row["symbol"]: _half_done_sentence(row) for row in half_done.iter_rows(named=True)}
    confirmed, off = _told_by_spin_offs(storing, corporate_actions.confirmed(compared)), compared.clear()
    if answer.extent is Extent.WHOLE:
        # After a long pause, a vendor may serve no bar any more that is stored.
        confirmed = pl.concat([confirmed, file_actions.between(storing, stored, screening)])
    if answer.extent is Extent.FILE:
        confirmed, off, refused = _of_files(storing, stored, screening, confirmed, compared, facts)
    shifted = _shifted(storing, stored, screening)
    shifted = shifted.filter(~pl.col("symbol").is_in([*confirmed["symbol"], *off["symbol"], *refused]))
    return RecognisedActions(
        suspected=SUSPECT_SCHEMA.to_frame(),
        confirmed=pl.concat([confirmed, shifted]).sort("symbol"),
        served=pl.concat([shifted, off]).sort("symbol"),
        refused=refused,
    )


def _of_files(
    storing: Storing,
    stored: StoredBars,
    screening: Screening,
    confirmed: pl.DataFrame,
    compared: pl.DataFrame,
    facts: pl.DataFrame,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str]]:
    """Decide what follows from the changes of scale in files.

    Args:
        storing: the answer to be stored.
        stored: the stored bars in and around the answer.
        screening: the screened bars of the answer.
        confirmed: COMPARED_SCHEMA, the changes that bars alone make certain.
        compared: COMPARED_SCHEMA, everything that differs by a factor.
        facts: symbol, effective_at, ratio, kind.

    Returns:
        The changes by which stored bars are converted to the file's scale, and those by which the file is converted to
        the stored scale (both COMPARED_SCHEMA); and by symbol, why nothing is stored.
    """
    kept = screening.screened.kept
    confirmed, refused = file_actions.judged(confirmed, compared, facts, stored.within, kept, storing.locked)
    beyond, ahead = (find(storing, stored, screening) for find in (file_actions.between, file_actions.ahead))
    parted, undecided = _of_several_scales(storing, stored, kept.filter(~pl.col("symbol").is_in(list(refused))))
    confirmed = confirmed.filter(~pl.col("symbol").is_in([*parted["symbol"], *undecided]))
    ahead, refused = pl.concat([parted, ahead]), refused | undecided
    if confirmed.is_empty():
        return beyond, ahead, refused
    told = _which_is_off(storing, stored, confirmed, kept, facts)
    of_stored, of_file, unclear = (
        told.filter(off=off).drop("off")
        for off in (corporate_actions.STORED_IS_OFF, corporate_actions.FILE_IS_OFF, corporate_actions.UNCLEAR)
    )
    refused |= {row["symbol"]: _unclear_sentence(row) for row in unclear.iter_rows(named=True)}
    return pl.concat([of_stored, beyond]), pl.concat([corporate_actions.inverted(of_file), ahead]), refused


def _which_is_off(
    storing: Storing, stored: StoredBars, found: pl.DataFrame, served: pl.DataFrame, facts: pl.DataFrame
) -> pl.DataFrame:
    """Return the changes of scale `found` in files (COMPARED_SCHEMA) with `off`: see `which_is_off`."""
    bars = pl.concat([stored.within, stored.context])
    newest = storing.locked.select("symbol", newest_ts="last_ts")
    return corporate_actions.which_is_off(found, bars, served, newest, file_actions.told_by_facts(found, facts))


def _of_several_scales(
    storing: Storing, stored: StoredBars, served: pl.DataFrame
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Decide about files that have prices as they traded over several splits, from the newest split to the oldest.

    Returns:
        By what the files are converted to the stored scale, one row of COMPARED_SCHEMA per split; and by symbol, why
        nothing is stored. Files that are right about the newest split are in neither.
    """
    scales, refused = [COMPARED_SCHEMA.to_frame()], dict[str, str]()
    parts = several_scales.parts(stored.within, served)
    facts = action_facts.factors(storing.transaction, parts["symbol"].unique().to_list()) if len(parts) else parts
    number = 0
    while not parts.is_empty():
        part = served.join(parts.filter(part=number), on=["symbol", "ts"], how="semi")
        off = _which_is_off(storing, stored, corporate_actions.compare(stored.within, part, None, facts), served, facts)
        undecided = off.filter(off=corporate_actions.UNCLEAR) if number == 0 else off
        undecided = undecided.filter(pl.col("off") != corporate_actions.FILE_IS_OFF)
        refused |= {row["symbol"]: _unclear_sentence(row) for row in undecided.iter_rows(named=True)}
        scales.append(corporate_actions.inverted(off.filter(off=corporate_actions.FILE_IS_OFF).drop("off")))
        served = several_scales.converted(served, scales[-1])
        parts = parts.join(scales[-1], on="symbol", how="semi").filter(pl.col("part") > number)
        number += 1
    return pl.concat(scales).filter(~pl.col("symbol").is_in(list(refused))), refused


def _told_by_spin_offs(storing: Storing, confirmed: pl.DataFrame) -> pl.DataFrame:
    """Return `confirmed` with the kind `spin-off` where a known spin-off without a ratio explains the change.

    The fact is given the ratio that the bars show.
    """
    unexplained = confirmed.filter(pl.col("kind") == RESCALED)
    if unexplained.is_empty():
        return confirmed
    told = action_facts.measure_spin_offs(storing.transaction, unexplained, _FACT_NEAR)
    is_told = pl.col("symbol").is_in(told) & (pl.col("kind") == RESCALED)
    return confirmed.with_columns(kind=pl.when(is_told).then(pl.lit("spin-off")).otherwise("kind"))


def _oldest_scale(stored: StoredBars, served: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Return the oldest scale of series that are stored over several splits: SUSPECT_SCHEMA.

    Bars that are not served again are on that one.
    """
    parts = several_scales.parts(stored.within, served)
    if parts.is_empty():
        # As in nearly every answer: nothing has to be compared.
        return SUSPECT_SCHEMA.to_frame()
    oldest = parts.filter(pl.col("part") == pl.col("part").max().over("symbol"))
    oldest_bars = served.join(oldest, on=["symbol", "ts"], how="semi")
    return corporate_actions.compare(stored.within, oldest_bars, None, facts).select(list(SUSPECT_SCHEMA))


def _steps(storing: Storing, stored: StoredBars, screening: Screening) -> pl.DataFrame:
    """Return series of which no stored bar was served again and whose price steps as by a split: SUSPECT_SCHEMA."""
    nothing = SUSPECT_SCHEMA.to_frame()
    if storing.answer.extent is not Extent.PART:
        return nothing
    free = storing.through_zero(screening.bars, stored.context)
    served = screening.bars.filter(~pl.col("symbol").is_in(free.implode()))
    served = served.join(stored.within.select("symbol").unique(), on="symbol", how="anti")
    served = served.join(stored.context.select("symbol").unique(), on="symbol", how="semi")
    if served.is_empty():
        return nothing
    facts = action_facts.factors(storing.transaction, served["symbol"].unique().to_list())
    return split_steps.steps_like_splits(stored.context, served, facts).select(list(SUSPECT_SCHEMA))


def _shifted(storing: Storing, stored: StoredBars, screening: Screening) -> pl.DataFrame:
    """Return the level shifts within an answer, or between it and the stored bars: COMPARED_SCHEMA."""
    shifts = screening.screened.shifts
    if shifts.is_empty():
        return COMPARED_SCHEMA.to_frame()
    facts = action_facts.factors(storing.transaction, shifts["symbol"].to_list())
    columns = ("symbol", "ts", "close", "volume")
    around = pl.concat([stored.context.select(columns), screening.screened.kept.select(columns)])
    rows = []
    for symbol, by_closes, first_ts in shifts.iter_rows():
        mine = around.filter(pl.col("symbol") == symbol)
        before, after = mine.filter(pl.col("ts") < first_ts), mine.filter(pl.col("ts") >= first_ts)
        opened = screening.bars.filter(symbol=symbol, ts=first_ts)["open"].item()
        step = by_closes * after["close"][0] / opened
        near = facts.filter(pl.col("symbol") == symbol, (pl.col("effective_at") - pl.lit(first_ts)).abs() <= _FACT_NEAR)
        ratio, name, kind = _explained(step, near)
        volume = _quotient(after["volume"].median(), before["volume"].median())
        scaled = corporate_actions.volume_ratio(ratio, kind, volume)
        last_ts = first_ts - timedelta(microseconds=1)
        rows.append((symbol, ratio, name, kind, scaled, after.height, before.height, 0, last_ts, before.height))
    return pl.DataFrame(rows, schema=COMPARED_SCHEMA, orient="row")


def _explained(step: float, facts: pl.DataFrame) -> tuple[float, str, str]:
    """Return the ratio of a level shift, its name and its kind, from the `step` of the price and the facts near it."""
    if not facts.is_empty():
        ratio, kind = facts.select("ratio", "kind").row(0)
        return ratio, corporate_actions.name_of(ratio), kind
    for hundred in (_HUNDRED, 1 / _HUNDRED):
        if abs(math.log(step / hundred)) <= _HUNDRED_WITHIN:
            return hundred, corporate_actions.name_of(hundred), LEVEL_SHIFT
    name = f"about {step:.3g}:1" if step > 1 else f"about 1:{1 / step:.3g}"
    return step, name, LEVEL_SHIFT


def _quotient(after: object, before: object) -> float | None:
    return after / before if isinstance(after, float) and isinstance(before, float) and before > 0 < after else None


def _half_done_sentence(row: Mapping[str, object]) -> str:
    what = "" if row["kind"] == RESCALED else f" {row['kind']}"
    return (
        f"the newest bars are re-adjusted for a {row['split']}{what}, but of {row['older']} stored bars only "
        f"{row['agreeing']}; all is kept as it was and requested again later"
    )


def _unclear_sentence(row: Mapping[str, Any]) -> str:
    return (
        f"up to {row['last_ts']:%Y-%m-%d %H:%M} UTC the file and the stored bars are on two scales, by "
        f"{corporate_actions.name_of(1 / row['ratio'])}, and the newer bars do not tell which one is right; nothing of "
        "it is stored. Ingest a file that is adjusted throughout, or one file for each scale"
    )
