"""Plans, stores and settles bars before the first bars of fetched series, per provider. Asks no provider itself."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.errors import ProviderError, RequestRefused, UnknownSymbol
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.refresh.answers import Extent, Stored
from ema_assets.refresh.plan_older import LOOK_BACK, plan_growth, plan_long
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.refresh.store_long_history import LongAnswer, store_long_history
from ema_assets.store import older_history, sessions
from ema_assets.store.database import Database, Transaction


class Older:
    """The older bars of some series of one fetched timeframe and one provider.

    `begun_again` is as in `Answer`.
    `growth` is requested before `long`, because it may change where a series begins.
    """

    def __init__(
        self,
        database: Database,
        timeframe: Timeframe,
        rules: FetchRules,
        now: datetime,
        begun_again: Mapping[str, int],
        *,
        everything: bool,
    ) -> None:
        self._database = database
        self._timeframe = timeframe
        self._rules = rules
        self._now = now
        self._begun_again = begun_again
        self._everything = everything
        self._seams = pl.DataFrame(schema={"symbol": pl.String(), "seam": UTC_TIME})
        self._reaching = pl.DataFrame()
        # The symbols for which more of their own bars are requested, and the ones that have received them.
        self._growing: set[str] = set()
        self._grown: set[str] = set()

    def length(self, provider: str | None) -> Timeframe:
        """Return the timeframe of the long history of a provider."""
        return by_key(self._rules.long_histories[provider].timeframe)

    def growth(self, symbols: Sequence[str]) -> pl.DataFrame:
        """Plan requests for more of their own bars for the `symbols` that are due; see `plan_growth`."""
        with self._database.transaction() as transaction:
            due = older_history.due(transaction, self._timeframe, symbols, self._now)
        plan = plan_growth(due, self._timeframe, self._rules, self._now)
        self._growing.update(plan["symbol"])
        return plan

    def long(self, symbols: Sequence[str], provider: str | None) -> pl.DataFrame:
        """Plan requests for long history for the `symbols` that want some, and settle the others.

        A series whose own older bars were requested but could not be stored is left out of both. It stays due.
        """
        symbols = without(symbols, self._growing - self._grown)
        history = self._rules.long_histories.get(provider)
        with self._database.transaction() as transaction:
            due = older_history.due(transaction, self._timeframe, symbols, self._now, everything=self._everything)
            plan = plan_long(
                due,
                older_history.series_of(transaction, due["symbol"].to_list()),
                self._trading(transaction, due),
                self._timeframe,
                history,
                self._now,
                everything=self._everything,
            )
            is_settled = pl.col("symbol").is_in(plan.settled["symbol"].implode())
            # The fetched series first: all runs lock them before what is rolled up from them.
            self._settle(transaction, plan.settled)
            older_history.reach_back(transaction, self._news(transaction, plan.reaching.filter(is_settled)))
        self._seams, self._reaching = plan.long.select("symbol", "seam"), plan.reaching
        return plan.long.drop("seam")

    def _news(self, transaction: Transaction, reaching: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of `reaching` whose series do not reach back that far yet."""
        if reaching.is_empty():
            return reaching
        known = older_history.reaches(transaction, reaching["symbol"].unique().to_list())
        both = reaching.join(known, on=["symbol", "timeframe"], how="left")
        return both.filter((pl.col("asked_from") > pl.col("from_ts")).fill_null(True)).select(reaching.columns)

    def _trading(self, transaction: Transaction, due: pl.DataFrame) -> pl.DataFrame:
        """Return the sessions of the calendars of `due`, far enough back for `plan_long`."""
        first = due["first_ts"].min()
        start = self._now - LOOK_BACK
        if isinstance(first, datetime):
            start = min(start, first - timedelta(days=1))
        return sessions.between(transaction, due["calendar"].unique().to_list(), start, self._now)

    def _settle(self, transaction: Transaction, settled: pl.DataFrame) -> None:
        """Write that the series of `settled` have now been requested to the full depth."""
        beginning = self._rules.beginning(self._timeframe, self._now)
        settled = settled.with_columns(asked_from=pl.lit(beginning, UTC_TIME))
        depth = self._rules.depths.get(self._timeframe.key)
        older_history.settle(transaction, self._timeframe, settled, depth, self._now)

    def begin(
        self, transaction: Transaction, stored: pl.DataFrame, bars: pl.DataFrame, new: Sequence[str], extent: Extent
    ) -> None:
        """Record how far back the series of `stored` (symbol, start, end) were requested, where that has changed.

        It has changed for the `new` series and for series whose `growth` was requested, even if they were fetched as a
        whole because their scale was in doubt. Long history comes later. A new series without any of the received
        `bars` counts as requested from the end on: vendors send empty answers by mistake, so its past is requested
        again as `growth` once it has a bar.
        """
        is_new = pl.col("symbol").is_in(list(new) if extent is not Extent.OLDER else [])
        is_growing = pl.col("symbol").is_in(list(self._growing)) & ~is_new
        has_bars = pl.col("symbol").is_in(bars["symbol"].unique().implode())
        begun = stored.filter(is_new).with_columns(start=pl.when(has_bars).then("start").otherwise("end"))
        for mine, is_anew in ((begun, True), (stored.filter(is_growing), False)):
            if not mine.is_empty():
                older_history.begin(transaction, self._timeframe, mine.sort("symbol"), self._now, is_anew=is_anew)
                self._grown.update(mine["symbol"])

    def store(
        self, bars: pl.DataFrame, asked: pl.DataFrame, trading: pl.DataFrame, source: str, provider: str | None
    ) -> Stored:
        """Store the long bars received for the series `asked` (ASKED_SCHEMA), and settle these, in one transaction."""
        series = asked.select("symbol", "calendar", "start", "end").join(self._seams, on="symbol")
        reaching = self._reaching.filter(pl.col("symbol").is_in(series["symbol"].implode()))
        word = self._rules.long_histories[provider].word
        answer = LongAnswer(
            bars, series, reaching, self.length(provider), source, word, trading, self._now, self._begun_again
        )
        with self._database.transaction() as transaction:
            stored, settled = store_long_history(transaction, self._timeframe, answer)
            self._settle(transaction, settled)
        return stored

    def give_up(self, errors: Mapping[str, ProviderError]) -> list[str]:
        """Settle the symbols that the provider refuses, because another request would not help; return them."""
        refused = {symbol: str(e) for symbol, e in errors.items() if isinstance(e, RequestRefused | UnknownSymbol)}
        self._grown.update(refused)
        if refused:
            settled = pl.DataFrame(
                {
                    "symbol": list(refused),
                    "asked_from": None,
                    "long_from": None,
                    "note": [f"Long history is refused: {said}" for said in refused.values()],
                },
                schema={"symbol": pl.String(), "asked_from": UTC_TIME, "long_from": UTC_TIME, "note": pl.String()},
            )
            with self._database.transaction() as transaction:
                self._settle(transaction, settled)
        return list(refused)


def wants_older(now: datetime, *, everything: bool) -> pl.Expr:
    """Return a filter for `ledger.fetch_state`: series whose older bars are due once the newer ones are stored."""
    is_new = pl.col("checked_through").is_null()
    return is_new | (pl.col("older_due_at") <= now).fill_null(False) | pl.lit(everything)


def without(symbols: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the `symbols` that are not among `others`, in their order."""
    gone = set(others)
    return [symbol for symbol in symbols if symbol not in gone]
