"""Stores an answer in four steps: validate, recognise corporate actions, persist, account for gaps."""

from dataclasses import replace
from datetime import datetime

import polars as pl

from ema_assets.market.outliers import CONTEXT_BARS, Screened, screen_outliers
from ema_assets.market.several_scales import converted
from ema_assets.market.validation import Validated, validate
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import (
    ASKED_SCHEMA,
    BAR_SCHEMA,
    SESSION_SCHEMA,
    SUSPECT_SCHEMA,
    check_frame,
)
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.account_for_gaps import account_for_gaps
from ema_assets.refresh.answers import Answer, Stored, Storing, outdated, spans_of
from ema_assets.refresh.complete_files import completed
from ema_assets.refresh.outside_sessions import outside_sessions
from ema_assets.refresh.persist_answer import Checked, persist
from ema_assets.refresh.recognise_actions import recognise_actions
from ema_assets.refresh.screen_answer import read_stored_bars, screen
from ema_assets.store import action_facts, ledger, quality, tables
from ema_assets.store.database import Transaction


def store_bars(
    transaction: Transaction, timeframe: Timeframe, answer: Answer, trading: pl.DataFrame, now: datetime
) -> Stored:
    """Store the sound bars of `answer`, whose bars are all of `timeframe`, in one transaction.

    `trading` (SESSION_SCHEMA) covers the bars; `now` is UTC.

    Raises:
        SchemaMismatch: when a frame lacks columns or has other dtypes than required.
    """
    _check(answer, trading)
    symbols = sorted(answer.asked["symbol"])
    if not timeframe.is_fetched:
        # A run marks what is rolled up in any order, while it holds the series that these are made of.
        ledger.lock(transaction, OHLC, timeframe.base, symbols)
    locked = ledger.lock(transaction, OHLC, timeframe, symbols)
    begun_again = outdated(locked, answer.begun_again)
    if begun_again:
        answer = _without(answer, begun_again)
        locked = locked.filter(~pl.col("symbol").is_in(begun_again))
    storing = Storing(transaction, timeframe, answer, trading, now, locked)
    # Actions are recorded even if nothing else of the answer is stored, because they may explain why.
    action_facts.record(transaction, answer.actions, answer.source)

    validated = validate(answer.bars, timeframe, storing.instruments, trading, answer.closed_by)
    outside = outside_sessions(storing, validated.skipped)
    stored_bars = read_stored_bars(storing, validated.accepted, outside)
    screening = screen(storing, validated, stored_bars.context)
    screened = screening.screened

    actions = recognise_actions(storing, stored_bars, screening)
    if not (actions.confirmed.is_empty() and actions.served.is_empty()):
        # The stored bars around an answer on another scale will be converted to it, so they are no context for it.
        context = stored_bars.context.join(actions.confirmed, on="symbol", how="anti")
        screened = screen_outliers(converted(screening.bars, actions.served), context, screening.news)

    checked = _merge(validated, screened, outside, ~pl.col("symbol").is_in(actions.left_out))
    checked = replace(checked, accepted=completed(storing, checked.accepted, actions.confirmed))
    asked = _with_reach(answer.asked.filter(~pl.col("symbol").is_in(actions.left_out)), checked.accepted)
    persisted = persist(storing, checked, asked, actions.confirmed)
    _look_behind(storing, checked.accepted.join(actions.confirmed, on="symbol", how="semi"))

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
        outdated=begun_again,
    )


def _without(answer: Answer, symbols: list[str]) -> Answer:
    """Return `answer` without what it says of `symbols`, except their corporate actions: these are facts."""
    is_kept = ~pl.col("symbol").is_in(symbols)
    return replace(answer, bars=answer.bars.filter(is_kept), asked=answer.asked.filter(is_kept))


def _check(answer: Answer, trading: pl.DataFrame) -> None:
    check_frame(f"bars of {answer.source}", answer.bars, BAR_SCHEMA)
    check_frame(f"series asked of {answer.source}", answer.asked, ASKED_SCHEMA)
    check_frame("sessions", trading, SESSION_SCHEMA)
    if answer.suspects is not None:
        check_frame("suspected splits", answer.suspects, SUSPECT_SCHEMA)


def _merge(validated: Validated, screened: Screened, outside: pl.DataFrame, is_kept: pl.Expr) -> Checked:
    """Return the bars of the series that are kept (`is_kept`), grouped by what becomes of them."""
    columns = validated.rejected.columns
    noted = validated.flags.join(screened.kept, on=["symbol", "ts"], how="semi")
    return Checked(
        accepted=screened.kept.filter(is_kept),
        rejected=pl.concat([validated.rejected, screened.rejected.select(columns)]).filter(is_kept),
        skipped=pl.concat([validated.skipped, screened.unconfirmed.select(columns)]).filter(is_kept),
        flags=pl.concat([screened.flags, noted]).filter(is_kept),
        after=screened.after.filter(is_kept),
        outside=outside.filter(is_kept),
    )


def _look_behind(storing: Storing, bars: pl.DataFrame) -> None:
    """Flag the stored bars after `bars` again: now that a series is on one scale, a flagged jump may have vanished."""
    if bars.is_empty():
        return
    context = tables.closes_around(storing.transaction, storing.timeframe, spans_of(bars), CONTEXT_BARS)
    screened = screen_outliers(bars, context)
    flags = screened.flags.join(screened.after, on=["symbol", "ts"], how="semi")
    quality.flag(storing.transaction, storing.timeframe, bars.select("symbol", "ts").clear(), screened.after, flags)


def _with_reach(asked: pl.DataFrame, accepted: pl.DataFrame) -> pl.DataFrame:
    """Return `asked` with `checked_through`, and with null starts and ends filled in from the accepted bars.

    A series without a start and without an accepted bar is left out.
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
