"""Which version of an asset's code a run was launched for, and whether the process that executes it has another one.

On other hosts, whose files are their own. Here, code server and runs read the same files.
"""

import socket

from dagster import AssetExecutionContext, DagsterInstance

from ema_assets.defs.guest import launcher_name
from ema_assets.model.errors import CodeDiffers
from ema_assets.refresh.graph import Node
from ema_assets.store import ledger
from ema_assets.store.database import Database

# On the step of each computed asset, in what Dagster stores of a run when it is launched.
CODE_VERSION_TAG = "ema_assets/code_version"
_OF_THIS_HOST = ("StandbyRunLauncher", "DefaultRunLauncher")
# The versions in the plan that was read last, by step: one for all steps of a run. A plan is called by its contents.
_versions: dict[str, dict[str, str | None]] = {}


def code_differs(context: AssetExecutionContext, node: Node, database: Database) -> CodeDiffers | None:
    """Why this host must not compute `node`: it would do it in a way that nobody has asked for; None when it may.

    Somebody has asked for it when the code location that launched the run computes it so, or when the configuration was
    synced since: a run may have waited in the queue meanwhile.
    """
    launched_for = _launched_for(context) if _is_elsewhere(context.instance) else None
    if launched_for is None or launched_for == node.code_version:
        return None
    with database.transaction() as transaction:
        if ledger.adopted_code_version(transaction, node.name) == node.code_version:
            return None
    return CodeDiffers(
        f"{socket.gethostname()} computes {node.name} by version {node.code_version!r} and the code location that "
        f"launched the run by {launched_for!r}: their releases, parameters, signals or strategies differ. "
        "Give all hosts the same"
    )


def _is_elsewhere(instance: DagsterInstance) -> bool:
    """Whether the run may be on another host than the code server."""
    return not instance.is_ephemeral and launcher_name(instance) not in _OF_THIS_HOST


def _launched_for(context: AssetExecutionContext) -> str | None:
    """The version that the code location had of the asset of this step; None for a run without a stored plan."""
    stored = context.run.execution_plan_snapshot_id
    if stored is None:
        return None
    if stored not in _versions:
        _versions.clear()
        steps = context.instance.get_execution_plan_snapshot(stored).steps
        _versions[stored] = {step.key: (step.tags or {}).get(CODE_VERSION_TAG) for step in steps}
    return _versions[stored].get(context.op_execution_context.get_step_execution_context().step.key)
