"""Storing an answer in four steps: validate, recognise corporate actions, persist, account for gaps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from ema_assets.market import corporate_actions
from ema_assets.market.outliers import CONTEXT_BARS, Screened, screen_outliers
from ema_assets.market.validation import Validated, validate
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import (
    ASKED_SCHEMA,
    BAR_SCHEMA,
    SESSION_SCHEMA,
    SUSPECT_SCHEMA,
    UTC_TIME,
    check_frame,
)
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.account_for_gaps import account_for_gaps
from ema_assets.refresh.answers import Answer, Extent, Stored, Storing, spans_of
from ema_assets.refresh.persist_answer import Checked, persist
from ema_assets.store import ledger, tables
from ema_assets.store.database import Transaction


def store_bars(
    transaction: Transaction, timeframe: Timeframe, answer: Answer, trading: pl.DataFrame, now: datetime
) -> Stored:
    """Store the sound bars of `answer`, whose bars are all of `timeframe`, in one transaction.

    `trading` (SESSION_SCHEMA) covers the bars; `now` is UTC.

    Raises:
        SchemaMismatch: when a frame has not the columns it must have.
    """
    _check(answer, trading)
    locked = ledger.lock(transaction, OHLC, timeframe, sorted(answer.asked["symbol"]))
    storing = Storing(transaction, timeframe, answer, trading, now, locked)

    validated = validate(answer.bars, timeframe, answer.asked.select("symbol", "calendar"), trading, answer.closed_by)
    stored_bars = _read_stored_bars(storing, validated.accepted)
    screened = screen_outliers(validated.accepted, stored_bars.context)

    actions = _recognise_corporate_actions(answer, stored_bars, screened)
    if not actions.confirmed.is_empty():
        # The bars around a file on another scale are about to be brought to it: they tell nothing.
        context = stored_bars.context.join(actions.confirmed, on="symbol", how="anti")
        screened = screen_outliers(validated.accepted, context)

    checked = _merge(validated, screened, ~pl.col("symbol").is_in(actions.left_out))
    asked = _with_reach(answer.asked.filter(~pl.col("symbol").is_in(actions.left_out)), checked.accepted)
    persisted = persist(storing, checked, asked, actions.confirmed)

    missing = account_for_gaps(storing, checked.accepted, asked)
    return Stored(
        accepted=checked.accepted,
        changes=persisted.changes,
        rejected=checked.rejected,
        skipped=checked.skipped,
        flags=checked.flags,
        missing=missing,
        suspected=actions.suspected.select(list(SUSPECT_SCHEMA)),
        rescaled=persisted.rescaled,
        splits=dict(actions.confirmed.select("symbol", "split").iter_rows()),
        refused=actions.refused,
    )


def _check(answer: Answer, trading: pl.DataFrame) -> None:
    check_frame(f"bars of {answer.source}", answer.bars, BAR_SCHEMA)
    check_frame(f"series asked of {answer.source}", answer.asked, ASKED_SCHEMA)
    check_frame("sessions", trading, SESSION_SCHEMA)
    if answer.suspects is not None:
        check_frame("suspected splits", answer.suspects, SUSPECT_SCHEMA)


# --- validate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _StoredBars:
    """Stored closes (symbol, ts, close): those in the span of the answer, and a few around it."""

    within: pl.DataFrame
    context: pl.DataFrame


def _read_stored_bars(storing: Storing, accepted: pl.DataFrame) -> _StoredBars:
    """What is stored in and around the spans of the `accepted` bars. The whole history has nothing around it."""
    known = storing.locked.filter(pl.col("last_ts").is_not_null())["symbol"]
    spans = spans_of(accepted).filter(pl.col("symbol").is_in(known.implode()))
    within = context = pl.DataFrame(schema={"symbol": pl.String(), "ts": UTC_TIME, "close": pl.Float64()})
    if not spans.is_empty():
        within = tables.closes_between(storing.transaction, storing.timeframe, spans)
        if storing.answer.extent is not Extent.WHOLE:
            context = tables.closes_around(storing.transaction, storing.timeframe, spans, CONTEXT_BARS)
    return _StoredBars(within, context)


def _merge(validated: Validated, screened: Screened, is_kept: pl.Expr) -> Checked:
    """The bars of all series that are kept, by whether they are to be stored."""
    columns = validated.rejected.columns
    return Checked(
        accepted=screened.kept.filter(is_kept),
        rejected=pl.concat([validated.rejected, screened.rejected.select(columns)]).filter(is_kept),
        skipped=pl.concat([validated.skipped, screened.unconfirmed.select(columns)]).filter(is_kept),
        flags=screened.flags.filter(is_kept),
    )


def _with_reach(asked: pl.DataFrame, accepted: pl.DataFrame) -> pl.DataFrame:
    """`asked` with `checked_through`, and with start and end also where the bars themselves say how far they reach.

    Then a series of which no bar was accepted is left out.
    """
    if asked["start"].null_count():
        reach = accepted.group_by("symbol").agg(first=pl.col("ts").min(), last_end=pl.col("ts_end").max())
        asked = (
            asked.join(reach, on="symbol", how="left")
            .with_columns(start=pl.coalesce("start", "first"), end=pl.coalesce("end", "last_end"))
            .filter(pl.col("start").is_not_null())
            .select(list(ASKED_SCHEMA))
        )
    return asked.with_columns(checked_through=pl.when("advances").then("end"))


# --- recognise corporate actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _CorporateActions:
    """Splits that show between the stored and the served bars, as rows of `corporate_actions.compare`.

    `confirmed` series are stored on their new scale. Of `suspected` and `refused` ones nothing is stored: the former
    are asked for as a whole, the latter failed, and why.
    """

    suspected: pl.DataFrame
    confirmed: pl.DataFrame
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> list[str]:
        """The symbols of which nothing is stored."""
        return [*self.suspected["symbol"], *self.refused]


def _recognise_corporate_actions(answer: Answer, stored_bars: _StoredBars, screened: Screened) -> _CorporateActions:
    compared = corporate_actions.compare(stored_bars.within, screened.kept, answer.suspects)
    if answer.extent in (Extent.PART, Extent.GAP):
        return _CorporateActions(suspected=corporate_actions.suspected(compared), confirmed=compared.clear())
    refused: dict[str, str] = {}
    if answer.suspects is not None:
        half_done = corporate_actions.half_done(compared).join(answer.suspects, on="symbol", how="semi")
        refused = {row["symbol"]: _half_done_sentence(row) for row in half_done.iter_rows(named=True)}
    return _CorporateActions(
        suspected=compared.clear(), confirmed=corporate_actions.confirmed(compared), refused=refused
    )


def _half_done_sentence(row: Mapping[str, object]) -> str:
    return (
        f"the newest bars are re-adjusted for a {row['split']} split, but of {row['older']} stored bars only "
        f"{row['agreeing']}; all is kept as it was and asked for again later"
    )
