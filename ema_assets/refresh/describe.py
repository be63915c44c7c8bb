"""Once per night, asks providers for the states and corporate actions of symbols. No bars here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from ema_assets.market.calendars import LOOK_BACK
from ema_assets.model.errors import MalformedAnswer
from ema_assets.model.schemas import ACTION_SCHEMA, STATE_SCHEMA, check_frame
from ema_assets.model.symbols import Instrument
from ema_assets.providers.fetching.describing import Described, Question
from ema_assets.providers.http.budget import Budget
from ema_assets.refresh.call_budget import SharedBudget
from ema_assets.refresh.contract import unforeseen
from ema_assets.store import action_facts, provider_state, sessions, states
from ema_assets.store.database import Database, Transaction

# The start of the first request for corporate actions. No provider here has older bars of shares.
FIRST_DAY = date(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Describer:
    """A provider that can describe its symbols: its name, its calls per minute, and the function that asks it."""

    provider: str
    requests_per_minute: int
    ask: Callable[[Budget, Question], Awaitable[Described]]


async def describe_due(
    database: Database, name: str | None, describer: Describer, closed: pl.DataFrame, now: datetime
) -> int:
    """Ask a provider for the states and corporate actions of its symbols that are due; return the number of calls.

    Symbols are due when the last sessions are read again (`reread_at` of `closed`), and when the provider was never
    asked about them. Whatever the answer, the next request is in the next night. A provider whose last requests for
    bars failed is not asked. A failure here changes nothing that is known and opens no circuit breaker, because bars
    may still be available.

    Args:
        database: where symbols, states and facts are stored.
        name: the name of the provider in the watchlist; None for the default one.
        describer: the describer of that provider.
        closed: as `plan.closed_bars` returns it.
        now: UTC.
    """
    mine = closed.filter(pl.col("provider").eq_missing(name))
    due = mine.group_by("calendar").agg(due_at=pl.col("reread_at").max()).drop_nulls("due_at")
    with database.transaction() as transaction:
        if provider_state.breaker(transaction, describer.provider).failures:
            return 0
        asked = states.claim(transaction, name, due, now)
        if asked.is_empty():
            return 0
        begun = _last_sessions(transaction, asked, now)
    since = {
        symbol: FIRST_DAY if through is None else through.date()
        for symbol, through in asked.select("symbol", "actions_through").iter_rows()
    }
    instruments = [Instrument(symbol, calendar) for symbol, calendar in asked.select("symbol", "calendar").iter_rows()]
    budget = SharedBudget(database, describer.provider, describer.requests_per_minute)
    question = Question(instruments, since, now.astimezone(UTC).date(), begun)
    described = await _answer(describer, budget, question)
    with database.transaction() as transaction:
        _store(transaction, describer.provider, asked, described, now)
    return described.calls


def _last_sessions(transaction: Transaction, asked: pl.DataFrame, now: datetime) -> dict[str, date]:
    """Return the day of the newest session that has begun at `now`, per symbol of `asked` (symbol, calendar)."""
    trading = sessions.between(transaction, asked["calendar"].unique().to_list(), now - LOOK_BACK, now)
    newest = trading.filter(pl.col("open") <= now).group_by("calendar").agg(pl.col("session").max())
    return dict(asked.join(newest, on="calendar").select("symbol", "session").iter_rows())


async def _answer(describer: Describer, budget: Budget, question: Question) -> Described:
    try:
        return await describer.ask(budget, question)
    except Exception as error:  # noqa: BLE001 - it is not our code
        said = unforeseen(error, describer.provider, "saying what became of symbols")
        return Described(None, None, (MalformedAnswer(said, provider=describer.provider),))


def _store(transaction: Transaction, provider: str, asked: pl.DataFrame, described: Described, now: datetime) -> None:
    # What one provider says of a symbol is not true of the next one's. Corporate actions are facts.
    claimed = states.still_claimed(transaction, asked["symbol"].to_list(), now)
    if described.actions is not None:
        check_frame(f"corporate actions of {provider}", described.actions, ACTION_SCHEMA)
        actions = _at_the_open(transaction, described.actions, asked)
        action_facts.withdraw(transaction, asked["symbol"].to_list(), actions, provider, now)
        action_facts.record(transaction, actions, provider)
        states.note_told(transaction, claimed, now)
    if described.states is not None:
        ended = described.states.filter(pl.col("state").is_in(["delisted", "unknown"]))["symbol"].to_list()
        settled = with_endings(described.states, action_facts.endings(transaction, ended, now))
        states.note(transaction, settled.filter(pl.col("symbol").is_in(claimed)), provider, now)
    # In the order of the problems, each once even if several series had it.
    said = "; ".join(dict.fromkeys(str(problem) for problem in described.problems))
    provider_state.note_description(transaction, provider, said or None)


def with_endings(said: pl.DataFrame, endings: pl.DataFrame) -> pl.DataFrame:
    """Return `said` (STATE_SCHEMA) with the day and the reason of an ending, where a fact tells it.

    `endings` are as `action_facts.endings` returns them. Only symbols that are delisted or unknown are changed: the
    name of an ended symbol may be in use again.
    """
    joined = said.join(
        endings.rename({"effective_at": "ended_at", "value": "told"}), on="symbol", how="left", maintain_order="left"
    )
    is_ended = pl.col("kind").is_not_null() & pl.col("state").is_in(["delisted", "unknown"])
    is_renamed = is_ended & (pl.col("kind") == "rename")
    reason = pl.when(pl.col("told").is_null()).then("kind").otherwise(pl.format("{} ({})", "kind", "told"))
    return joined.select(
        "symbol",
        state=pl.when(is_renamed).then(pl.lit("renamed")).when(is_ended).then(pl.lit("delisted")).otherwise("state"),
        since=pl.when(is_ended).then("ended_at").otherwise("since"),
        detail=pl.when(is_renamed).then("told").when(is_ended).then(reason).otherwise("detail"),
    ).match_to_schema(STATE_SCHEMA)


def _at_the_open(transaction: Transaction, actions: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Return `actions`, whose times are midnights, at the open of their day's session if it is known.

    An ex-date begins with its first trade, which is in the pre-market for series that include it.
    """
    if actions.is_empty():
        return actions
    first, last = actions["effective_at"].min(), actions["effective_at"].max()
    assert isinstance(first, datetime) and isinstance(last, datetime)  # noqa: PT018 - for the type checker
    trading = sessions.between(transaction, asked["calendar"].unique().to_list(), first, last)
    opens = trading.select("calendar", "session", opens="open")
    return (
        actions.with_columns(session=pl.col("effective_at").dt.date())
        .join(asked.select("symbol", "calendar"), on="symbol", how="left", maintain_order="left")
        .join(opens, on=["calendar", "session"], how="left", maintain_order="left")
        .with_columns(effective_at=pl.coalesce("opens", "effective_at"))
        .select(list(ACTION_SCHEMA))
    )
