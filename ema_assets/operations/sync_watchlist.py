"""The watchlist and the graph of assets into the database: instruments, tables, ledger rows, sessions, versions."""

from datetime import date, datetime, timedelta

from ema_assets.config.watchlist import Watchlist
from ema_assets.market.calendars import exchange_sessions
from ema_assets.refresh.graph import Graph, build
from ema_assets.store import ledger, results, sessions, tables
from ema_assets.store.database import Database, Transaction

_AHEAD = timedelta(days=370)
# Sessions are computed again when fewer than this many days are left, so that the calendar never runs dry.
_LEAST_AHEAD = timedelta(days=180)


def sync(
    database: Database, watchlist: Watchlist, now: datetime, graph: Graph | None = None
) -> tuple[list[str], list[str]]:
    """Make the database watch what `watchlist` says and compute `graph`; return the symbols added and those taken off.

    Without `graph`, it is the one that `watchlist` makes. Tables of signals and strategies are made where they are
    missing.

    Raises:
        ConfigurationError: when a calendar is not known; nothing is written then.
    """
    graph = graph or build(watchlist)
    past = now.date() - timedelta(days=max(watchlist.history_days.values()) + 30)
    with database.transaction() as transaction:
        for calendar in watchlist.calendars:
            cover(transaction, calendar, past, now.date())
        remade = adopt_graph(transaction, graph)
        added, removed = ledger.sync_instruments(transaction, watchlist.instruments)
        ledger.start_again(transaction, remade)
        ledger.adopt_code_versions(transaction, graph.code_versions)
    return added, removed


def adopt_graph(transaction: Transaction, graph: Graph) -> list[str]:
    """Make tables and views fit `graph`; return the assets whose tables were made anew or have new columns."""
    remade = tables.ensure(transaction, [table for node in graph.on for table in node.tables])
    ledger.sync_assets(transaction, graph.assets(), graph.inputs())
    results.ensure(
        transaction,
        results.Configured(
            signals={node.name: node.table.values for node in graph.computed if node.signal is not None},
            strategies={
                node.name: (node.table.time, *node.table.values) for node in graph.computed if node.variant is not None
            },
        ),
    )
    return [node.name for node in graph.computed if node.touches(remade)]


def cover(transaction: Transaction, calendar: str, start: date, today: date) -> None:
    """Store the sessions of `calendar` from `start` to a year from `today`, where they are missing."""
    low, high = sessions.covered(transaction).get(calendar, (date.max, date.min))
    if low <= start + timedelta(days=7) and high >= today + _LEAST_AHEAD:
        return
    sessions.save(transaction, exchange_sessions(calendar, min(start, low), max(today + _AHEAD, high)))
