"""What another project's `dagster.yaml` means for ema-assets: everything works, only slower. Said once per process."""

from dagster import DagsterInstance

from ema_assets.defs.storage import MarketEventLog

_LAUNCHER = "StandbyRunLauncher"
# Whether this process has looked; an instance is made for every tick.
_looked: list[bool] = []


def what_is_slower(instance: DagsterInstance) -> str | None:
    """A sentence about an instance that was not made from our dagster.yaml; None when it was, and all later times."""
    if _looked:
        return None
    _looked.append(True)
    reasons = []
    if not isinstance(instance.event_log_storage, MarketEventLog):
        reasons.append(
            f"{type(instance.event_log_storage).__name__} stores events one by one (storage: MarketPostgresStorage)"
        )
    # The launcher itself would import what only Dagster's daemon needs.
    launcher = instance.get_ref().run_launcher_data
    name = "DefaultRunLauncher" if launcher is None else launcher.class_name
    if name != _LAUNCHER:
        reasons.append(f"{name} starts a process per run (run_launcher: {_LAUNCHER})")
    if not reasons:
        return None
    return f"Everything works with this dagster.yaml, only slower: {' and '.join(reasons)}; see docs/GUEST.md"
