"""What another project's `dagster.yaml` means for ema-assets: everything works, only slower. Said once per process."""

from dagster import DagsterInstance

from ema_assets.defs.launcher import StandbyRunLauncher
from ema_assets.defs.storage import MarketEventLog

_told: set[str] = set()


def what_is_slower(instance: DagsterInstance) -> str | None:
    """A sentence about an instance that was not made from our dagster.yaml, when it was not said before.

    None when there is nothing to say.
    """
    reasons = []
    if not isinstance(instance.event_log_storage, MarketEventLog):
        reasons.append(
            f"{type(instance.event_log_storage).__name__} stores events one by one (storage: MarketPostgresStorage)"
        )
    if not isinstance(instance.run_launcher, StandbyRunLauncher):
        reasons.append(
            f"{type(instance.run_launcher).__name__} starts a process per run (run_launcher: StandbyRunLauncher)"
        )
    sentence = f"Everything works with this dagster.yaml, only slower: {' and '.join(reasons)}; see docs/GUEST.md"
    if not reasons or sentence in _told:
        return None
    _told.add(sentence)
    return sentence
