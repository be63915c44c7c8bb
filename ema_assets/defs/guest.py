"""What another project's `dagster.yaml` means for ema-assets: everything works, only slower. Said once per process.

It also finds assets whose materializations were reported to another storage of Dagster, and not to this one.
"""

from dagster import DagsterInstance

from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.storage import MarketEventLog
from ema_assets.refresh.graph import Graph
from ema_assets.store import ledger
from ema_assets.store.database import Transaction

_LAUNCHER = "StandbyRunLauncher"
# Both launchers use processes that have loaded everything before a run begins: standby processes or Celery workers.
_WARM_LAUNCHERS = (_LAUNCHER, "LaneRunLauncher")
# Not empty once this process has looked; an instance is made for every tick.
_looked: list[bool] = []
# The namespaces for which this process has compared Dagster's records with the ledger.
_compared: set[str] = set()


def what_is_slower(instance: DagsterInstance) -> str | None:
    """Return a sentence about an instance that our dagster.yaml did not make; None otherwise and on later calls."""
    if _looked:
        return None
    _looked.append(True)
    reasons = []
    if not isinstance(instance.event_log_storage, MarketEventLog):
        reasons.append(
            f"{type(instance.event_log_storage).__name__} stores events one by one (storage: MarketPostgresStorage)"
        )
    if (name := launcher_name(instance)) not in _WARM_LAUNCHERS:
        reasons.append(f"{name} starts a process per run (run_launcher: {_LAUNCHER})")
    if not reasons:
        return None
    return f"Everything works with this dagster.yaml, only slower: {' and '.join(reasons)}; see docs/GUEST.md"


def launcher_name(instance: DagsterInstance) -> str:
    """Return the class name of the run launcher, without importing what only Dagster's daemon needs."""
    launcher = instance.get_ref().run_launcher_data
    return "DefaultRunLauncher" if launcher is None else launcher.class_name


def tell_anew(
    instance: DagsterInstance, transaction: Transaction, graph: Graph, namespace: Namespace = ALONE
) -> str | None:
    """Make the next runs report assets again when Dagster knows less of them than the ledger says it was told.

    That happens when one storage has replaced another, also one that was in use before, or when somebody has wiped an
    asset in a storage that is not ours. Return a sentence about it; None when there is no such asset, and on later
    calls.
    """
    if namespace.id in _compared:
        return None
    is_another = (own_id := _id_of(instance)) is not None and ledger.adopt_storage(transaction, own_id)
    # In this order, what a run reports meanwhile does not look missing.
    told = ledger.newest_events(transaction)
    records = instance.get_asset_records([namespace.key(node.name) for node in graph.on])
    newest = {each.asset_entry.asset_key: each.asset_entry.last_materialization_record for each in records}
    unknown = []
    # Readers first: an asset that is reported again because of its input would otherwise look forgotten already.
    for node in reversed(graph.on):
        record = newest.get(namespace.key(node.name))
        known = record.storage_id if record is not None else 0
        if node.name in told and (is_another or told[node.name] > known):
            unknown.append(node.name)
            ledger.forget_asset(transaction, node.name)
    if not unknown:
        # Not before: what this transaction has written may still be lost with its commit.
        _compared.add(namespace.id)
        return None
    return f"Dagster lacks reports of {', '.join(reversed(unknown))}: the next runs report them again"


def _id_of(instance: DagsterInstance) -> str | None:
    """Return the id of the storage of runs; None when it has none."""
    ask = getattr(instance.run_storage, "get_run_storage_id", None)
    return None if ask is None else str(ask())
