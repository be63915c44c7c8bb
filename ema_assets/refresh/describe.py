"""What became of symbols: once a night providers are asked for states and corporate actions. No bars here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from ema_assets.model.errors import MalformedAnswer
from ema_assets.model.schemas import ACTION_SCHEMA, STATE_SCHEMA, check_frame
from ema_assets.model.symbols import Instrument
from ema_assets.providers.fetching.describing import Described, Question
from ema_assets.providers.http.budget import Budget
from ema_assets.refresh.call_budget import SharedBudget
from ema_assets.refresh.contract import unforeseen
from ema_assets.store import action_facts, provider_state, sessions, states
from ema_assets.store.database import Database, Transaction

# From when on corporate actions are asked for the first time: no provider here has older bars of shares.
FIRST_DAY = date(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Describer:
    """How a provider is asked: its name, its calls per minute, and what asks it within a budget of them."""

    provider: str
    requests_per_minute: int
    ask: Callable[[Budget, Question], Awaitable[Described]]


async def describe_due(
    database: Database, name: str | None, describer: Describer, closed: pl.DataFrame, now: datetime
) -> int:
    """Ask a provider what became of those of its symbols for which it is time; return how many calls that took.

    It is time when the last sessions are read again (`reread_at` of `closed`), and when it was never asked about a
    symbol. Whatever the answer, the next time is the next night. A provider that does not answer is not asked. What
    it cannot say changes nothing that is known, and opens no circuit breaker: bars may come all the same.

    Args:
        database: where symbols, states and facts are.
        name: of the provider in the watchlist; None for the default one.
        describer: of that provider.
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
    since = {
        symbol: FIRST_DAY if through is None else through.date()
        for symbol, through in asked.select("symbol", "actions_through").iter_rows()
    }
    instruments = [Instrument(symbol, calendar) for symbol, calendar in asked.select("symbol", "calendar").iter_rows()]
    budget = SharedBudget(database, describer.provider, describer.requests_per_minute)
    described = await _answer(describer, budget, Question(instruments, since, now.astimezone(UTC).date()))
    with database.transaction() as transaction:
        _store(transaction, describer.provider, asked, described, now)
    return described.calls


async def _answer(describer: Describer, budget: Budget, question: Question) -> Described:
    try:
        return await describer.ask(budget, question)
    except Exception as error:  # noqa: BLE001 - it is not our code
        said = unforeseen(error, describer.provider, "saying what became of symbols")
        return Described(None, None, (MalformedAnswer(said, provider=describer.provider),))


def _store(transaction: Transaction, provider: str, asked: pl.DataFrame, described: Described, now: datetime) -> None:
    if described.actions is not None:
        check_frame(f"corporate actions of {provider}", described.actions, ACTION_SCHEMA)
        actions = _at_the_open(transaction, described.actions, asked)
        action_facts.withdraw(transaction, asked["symbol"].to_list(), actions, provider, now)
        action_facts.record(transaction, actions, provider)
        states.note_told(transaction, asked["symbol"].to_list(), now)
    if described.states is not None:
        ended = described.states.filter(pl.col("state").is_in(["delisted", "unknown"]))["symbol"].to_list()
        settled = with_endings(described.states, action_facts.endings(transaction, ended, now))
        states.note(transaction, settled, provider, now)
    # In the order of the problems, without those that several series had.
    said = "; ".join(dict.fromkeys(str(problem) for problem in described.problems))
    provider_state.note_description(transaction, provider, said or None)


def with_endings(said: pl.DataFrame, endings: pl.DataFrame) -> pl.DataFrame:
    """`said` (STATE_SCHEMA) of symbols that do not trade, with the day and the reason where a fact tells it.

    `endings` are as `action_facts.endings` returns them. A symbol that trades is left as it is: its name may be in use
    again.
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
    """`actions`, whose times are midnights, at the open of the session of their day where one is known.

    An ex-date begins with its first trade, which is before hours where a series has them.
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
