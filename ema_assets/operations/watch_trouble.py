"""Finding trouble with the product itself that subscriptions want alerts for. Run by the process that delivers them."""

from datetime import datetime, timedelta
from functools import cached_property

import polars as pl

from ema_assets.alerts.declaration import TroubleKind
from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import FETCHED
from ema_assets.refresh.plan import Publications, closed_bars
from ema_assets.store import alert_outbox, ledger, provider_state, retention
from ema_assets.store.alert_outbox import ALERT_SCHEMA
from ema_assets.store.database import Transaction

_RUNS_BACK = timedelta(hours=1)
# A timeframe may have no run for long, such as over a weekend or the longest holidays, or while `up` does not run: the
# trouble lasts until a run succeeds. The limit is for runs of jobs that no longer exist.
_RUNS_OF_TIMEFRAMES_BACK = timedelta(days=31)
_KEY = ["subscription", "kind", "subject"]


class Standing:
    """The state of the product, read from the database: implements `alerts.declaration.Conditions`."""

    def __init__(
        self,
        transaction: Transaction,
        now: datetime,
        machine_now: datetime,
        publications: Publications,
        default_provider: str | None,
    ) -> None:
        self._transaction = transaction
        self._now = now
        self._machine_now = machine_now
        self._publications = publications
        self._default_provider = default_provider

    def failing_series(self) -> pl.DataFrame:
        """Return failing series, as declared in `Conditions`."""
        return self._failing

    def silent_providers(self) -> pl.DataFrame:
        """Return providers that do not answer, as declared in `Conditions`."""
        return provider_state.not_answering(self._transaction, self._default_provider)

    def freshness(self) -> pl.DataFrame:
        """Return how many series are fresh or late, as declared in `Conditions`."""
        return self._freshness

    def failed_runs(self) -> pl.DataFrame:
        """Return failed runs, as declared in `Conditions`; none if Dagster's storage is in another database."""
        if not retention.dagster_is_here(self._transaction):
            names = ("run_id", "job", "of_timeframe", "backfill")
            return pl.DataFrame(schema={**dict.fromkeys(names, pl.String()), "ended_at": UTC_TIME})
        now = self._machine_now
        return alert_outbox.failed_runs(self._transaction, now - _RUNS_BACK, now - _RUNS_OF_TIMEFRAMES_BACK)

    @cached_property
    def _failing(self) -> pl.DataFrame:
        return ledger.failing(self._transaction)

    @cached_property
    def _freshness(self) -> pl.DataFrame:
        # Bars that closed two bars ago by the clock, not two bars before the last close: after a night, no bar came
        # two bars before the first one of the day.
        due = [
            closed_bars(self._transaction, self._now - 2 * each.duration, self._publications, timeframes=[each])
            for each in FETCHED
        ]
        return alert_outbox.freshness(
            self._transaction, pl.concat(due, how="diagonal").with_columns(late_before="ts_end")
        )


def watch_trouble(
    transaction: Transaction,
    alerts: Alerts,
    now: datetime,
    machine_now: datetime,
    publications: Publications,
    default_provider: str | None = None,
) -> int:
    """Raise alerts about trouble that began or ended since the last check; return how many.

    `now` is the market's time, which decides what should be fresh. Reported trouble is remembered in the same
    transaction. `default_provider` is the provider of symbols that name none.
    """
    wanted = [(each, kind) for each in alerts.subscriptions for kind in each.trouble_kinds()]
    if not wanted:
        return 0
    standing = Standing(transaction, now, machine_now, publications, default_provider)
    found = pl.concat([_found(standing, subscription, kind) for subscription, kind in wanted])
    there, events = found.filter(is_lasting=True), _since_wanted(transaction, found.filter(is_lasting=False))
    there, events = (each.unique(_KEY, keep="first", maintain_order=True) for each in (there, events))
    told = alert_outbox.told_troubles(transaction)
    began = there.join(told, on=_KEY, how="anti")
    over = told.join(there, on=_KEY, how="anti")
    alert_outbox.note_troubles(transaction, began, over, machine_now)
    raised = [
        events.with_columns(occurrence=pl.col("subject")),
        began.with_columns(occurrence=pl.lit(machine_now.isoformat())),
        _ends(over, wanted, machine_now),
    ]
    if all(each.is_empty() for each in raised):
        return 0
    return alert_outbox.raise_alerts(transaction, pl.concat(map(_as_alerts, raised)))


def _found(standing: Standing, subscription: Subscription, kind: TroubleKind) -> pl.DataFrame:
    """Return the trouble of `kind` for `subscription`.

    Columns: subscription, kind, subject, text, symbol and timeframe (null if it is about no series), is_lasting, at
    (null for what lasts).
    """
    rows = kind.find(standing, subscription.params)
    if kind.is_of_series:
        if subscription.symbols is not None:
            rows = rows.filter(pl.col("symbol").is_in(list(subscription.symbols)))
        if subscription.timeframes is not None:
            rows = rows.filter(pl.col("timeframe").is_in(list(subscription.timeframes)))
    texts = [kind.say(row) for row in rows.iter_rows(named=True)]
    nothing = pl.lit(None, pl.String)
    return rows.select(
        subscription=pl.lit(subscription.name),
        kind=pl.lit(kind.name),
        subject="subject",
        text=pl.Series(texts, dtype=pl.String),
        symbol="symbol" if kind.is_of_series else nothing,
        timeframe="timeframe" if kind.is_of_series else nothing,
        is_lasting="is_lasting" if "is_lasting" in rows.columns else pl.lit(value=True),
        at="at" if "at" in rows.columns else pl.lit(None, UTC_TIME),
    )


def _since_wanted(transaction: Transaction, events: pl.DataFrame) -> pl.DataFrame:
    """Return the `events` that happened after their subscription wanted to be told of them.

    Until the watchlist has been synced, a new subscription wants nothing.
    """
    if events.is_empty():
        return events
    wanted = alert_outbox.wanted(transaction)
    later = events.join(wanted, on=["subscription", "kind"], maintain_order="left").filter(
        pl.col("at") > pl.col("since")
    )
    return later.select(events.columns)


def _ends(over: pl.DataFrame, wanted: list[tuple[Subscription, TroubleKind]], now: datetime) -> pl.DataFrame:
    """Return messages about reported trouble that is over, for subscriptions that still want it."""
    still = {(subscription.name, kind.name) for subscription, kind in wanted}
    rows = over.filter(
        pl.Series([key in still for key in over.select("subscription", "kind").iter_rows()], dtype=pl.Boolean)
    )
    texts = [f"over after {_lasted(now - row['since'])}: {row['text']}" for row in rows.iter_rows(named=True)]
    return rows.with_columns(
        text=pl.Series(texts, dtype=pl.String),
        occurrence=pl.format("{} over", pl.col("since").dt.to_string("iso")),
        is_over=pl.lit(value=True),
    )


def _lasted(span: timedelta) -> str:
    minutes = int(span.total_seconds()) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _as_alerts(rows: pl.DataFrame) -> pl.DataFrame:
    blank = {
        "is_over": pl.lit(value=False),
        "is_synthetic": pl.lit(value=False),
        "strategy": pl.lit(None, pl.String),
        "ts": pl.lit(None, UTC_TIME),
    }
    return rows.with_columns(**{name: value for name, value in blank.items() if name not in rows.columns}).select(
        list(ALERT_SCHEMA)
    )


def note_wanted(transaction: Transaction, alerts: Alerts | None) -> None:
    """Note which trouble subscriptions want; a new one is not told of runs that had failed before.

    Trouble reported to deleted subscriptions is forgotten: a new one of the same name would not be alerted of it.
    """
    wanted = [
        (each.name, kind.name) for each in (alerts.subscriptions if alerts else ()) for kind in each.trouble_kinds()
    ]
    alert_outbox.note_wanted(transaction, wanted)


def looks(alerts: Alerts) -> bool:
    """Return whether any subscription wants alerts about trouble."""
    return any(each.trouble_kinds() for each in alerts.subscriptions)
