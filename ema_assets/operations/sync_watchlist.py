"""Syncing the watchlist and the graph of assets to the database: instruments, tables, ledger, sessions, versions."""

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from ema_assets.config.watchlist import Watchlist
from ema_assets.market import exchanges
from ema_assets.model.asset_names import EMA_TREND, STRATEGY
from ema_assets.model.averages import trend_spans
from ema_assets.model.symbols import Instrument, without_hours
from ema_assets.operations.deliver_alerts import give_up_unwanted
from ema_assets.operations.roll_up_files import roll_up_again
from ema_assets.operations.watch_trouble import note_wanted
from ema_assets.refresh.depths import depths
from ema_assets.refresh.graph import Graph, build, trades_table
from ema_assets.refresh.outside_sessions import delete_newest_outside
from ema_assets.refresh.plan_older import LOOK_BACK
from ema_assets.store import ledger, older_history, own_views, results, sessions, sync_failures, tables
from ema_assets.store.database import Database, Transaction

_AHEAD = timedelta(days=370)
# Sessions are computed again when fewer than this many days are left, so that the calendar never runs dry.
_LEAST_AHEAD = timedelta(days=180)


def sync(
    database: Database, watchlist: Watchlist, now: datetime, graph: Graph | None = None
) -> tuple[list[str], list[str]]:
    """Make the database follow `watchlist` and `graph`; return the symbols added and those taken off.

    Without `graph`, it is built from `watchlist`. Missing tables of signals and strategies are created. The stored
    failure of an earlier sync is deleted.

    Raises:
        ConfigurationError: when a calendar is unknown; nothing is written then.
        StoreError: as in `adopt_graph`.
    """
    graph = graph or build(watchlist)
    earliest = now.date() - timedelta(days=max(*watchlist.history_days.values(), LOOK_BACK.days) + 30)
    with database.transaction() as transaction:
        ledger.wait_for_syncs(transaction)
        sessions.sync_special_days(transaction, watchlist.special_days)
        covered = {calendar: cover(transaction, calendar, earliest, now.date()) for calendar in watchlist.calendars}
        changed = {calendar: since for calendar, since in covered.items() if since is not None}
        past = {calendar: since for calendar, since in changed.items() if since <= now}
        outdated = tables.outdated(transaction, [table for node in graph.computed for table in node.tables])
        to_remake = [node.name for node in graph.computed if node.touches(outdated)]
        wanted = depths(watchlist.history_days, graph.with_bars)
        deeper = older_history.changed_depths(transaction, wanted)
        affected = [*to_remake, *_with_new_readers(transaction, graph)]
        ledger.lock_changes(transaction, watchlist.instruments, list(changed), graph.code_versions, affected, deeper)
        remade = adopt_graph(transaction, graph)
        begun_again = _begun_again(transaction, watchlist.instruments, past)
        added, removed = ledger.sync_instruments(transaction, watchlist.instruments)
        for calendar, since in past.items():
            delete_newest_outside(transaction, calendar, since, now)
            ledger.go_back(transaction, calendar, since)
        ledger.look_again(transaction, sorted(changed.keys() - past.keys()))
        roll_up_again(transaction, begun_again, now)
        ledger.start_again(transaction, remade)
        ledger.adopt_code_versions(transaction, graph.code_versions)
        note_wanted(transaction, watchlist.alerts)
        # Delivery does this, too, but nobody delivers when the last `[[alert]]` was removed.
        give_up_unwanted(transaction, watchlist.alerts)
        older_history.sync_depth(transaction, wanted, now)
        sync_failures.forget(transaction)
    return added, removed


def _with_new_readers(transaction: Transaction, graph: Graph) -> list[str]:
    """Return the assets that are read by one that the sync switches on.

    Its rows begin dirty if these have data, also data that a run is writing at this moment.
    """
    known = ledger.assets(transaction)
    return sorted({name for node in graph.on if node.name not in known for name in node.reads})


def _begun_again(transaction: Transaction, instruments: Iterable[Instrument], changed: Collection[str]) -> list[str]:
    """Return the symbols from files whose calendar or timeframes are others now, or whose calendar has `changed`."""
    from_files = [each for each in instruments if not each.is_fetched]
    if not from_files:
        return []
    known = {
        symbol: (calendar, set(keys))
        for symbol, calendar, keys in ledger.watched(transaction).select("symbol", "calendar", "timeframes").iter_rows()
    }
    return [
        each.symbol
        for each in from_files
        if each.calendar in changed or known.get(each.symbol) != (each.calendar, {one.key for one in each.with_bars})
    ]


def adopt_graph(transaction: Transaction, graph: Graph) -> list[str]:
    """Make tables and views fit `graph`; return the assets whose tables were created again or have new columns.

    Users' views over them are created again afterwards.

    Raises:
        StoreError: when tables or views cannot be changed, or naming a user's view that cannot be created again.
    """
    ledger.forget_failures(transaction, {node.name: node.code_version for node in graph.on})
    own = own_views.noted(transaction, results.VIEWS)
    # If every strategy is switched off, the views of trades stay, based on this empty table.
    wanted = [table for node in graph.on for table in node.tables] + (
        [] if graph.strategies else [trades_table(STRATEGY)]
    )
    remade = tables.ensure(transaction, wanted, graph.with_bars)
    ledger.sync_timeframes(transaction, graph.with_bars)
    ledger.sync_assets(transaction, graph.assets(), graph.inputs())
    results.ensure(
        transaction,
        results.Configured(
            signals={node.name: node.table.values for node in graph.computed if node.signal is not None},
            strategies={
                node.name: (node.table.time, *node.table.values) for node in graph.computed if node.variant is not None
            },
            timeframes=graph.timeframes,
            averages={
                spans: next((each.name for each in graph.on if each.variant and each.variant.trend == asset), None)
                for asset in graph.averages.values()
                if asset != EMA_TREND and (spans := trend_spans(asset)) is not None
            },
        ),
    )
    own_views.put_back(transaction, own)
    return [node.name for node in graph.computed if node.touches(remade)]


def cover(transaction: Transaction, calendar: str, start: date, today: date) -> datetime | None:
    """Store the sessions of `calendar` from `start` to a year from `today`, if they are missing or out of date.

    They begin with the year of `start`, so that bars of weeks, months and years begin where these periods do.

    Returns the open (UTC) of the first previously stored session that has changed, or None.
    """
    start = date(start.year, 1, 1) - timedelta(days=7)
    low, high, stored_from = sessions.stored(transaction, calendar)
    low, high = low or date.max, high or date.min
    special = sessions.special_days(transaction, without_hours(calendar))
    made_from = exchanges.fingerprint(special)
    is_long_enough = low <= start + timedelta(days=7) and high >= today + _LEAST_AHEAD
    if is_long_enough and stored_from == made_from:
        return None
    start, end = min(start, low), max(today + _AHEAD, high)
    found = exchanges.exchange_sessions(calendar, start, end, special)
    before = sessions.between(transaction, [calendar], *(datetime.combine(day, time(), UTC) for day in (start, end)))
    changed = sessions.replace(transaction, calendar, found, start, end)
    sessions.remember(transaction, calendar, made_from, exchanges.holidays_known_through(calendar))
    return _first_open([day for day in changed if low <= day <= high], before, found)


def _first_open(days: list[date], before: pl.DataFrame, found: pl.DataFrame) -> datetime | None:
    """Return the first open (UTC) of sessions of `days`, as they were `before` or are now `found`; None without days.

    If another session is open at that time, it is the open of that session: bars of every length begin at an open, but
    not at midnight UTC, which many sessions contain.
    """
    if not days:
        return None
    hours = pl.concat([before, found.select(before.columns)])
    opens = hours.filter(pl.col("session").is_in(days))["open"]
    under_way = hours.filter(pl.col("open") <= opens.min(), pl.col("close") > opens.min())["open"]
    opened = pl.concat([opens, under_way]).min()
    assert isinstance(opened, datetime)
    return opened
