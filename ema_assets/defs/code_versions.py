"""Which code version and provider a run was launched for, and whether the executing process has others.

This matters on other hosts, which have their own files. On one host, code server and runs read the same files.
"""

import socket
from collections.abc import Mapping

from dagster import AssetExecutionContext, DagsterInstance

from ema_assets.defs.guest import launcher_name
from ema_assets.model.errors import CodeDiffers, ConfigurationError
from ema_assets.refresh.graph import Node
from ema_assets.store import ledger
from ema_assets.store.database import Database

# A tag on the step of each computed asset, which Dagster stores with the run's plan when the run is launched.
CODE_VERSION_TAG = "ema_assets/code_version"
# A tag on the step of bars: the provider of symbols that name none.
PROVIDER_TAG = "ema_assets/provider"
_OF_THIS_HOST = ("StandbyRunLauncher", "DefaultRunLauncher")
# The tags in the plan that was read last, per step. All steps of a run share a plan. Its id is a hash of its contents.
_tags: dict[str, dict[str, Mapping[str, str]]] = {}


def code_differs(context: AssetExecutionContext, node: Node, database: Database) -> CodeDiffers | None:
    """Return why this host must not compute `node`, because its code version was not requested; None when it may.

    A version was requested when the code location that launched the run has it, or when the configuration was synced to
    it since: the run may have waited in the queue meanwhile.
    """
    launched_for = _launched_for(context, CODE_VERSION_TAG)
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


def provider_differs(context: AssetExecutionContext, provider: str) -> ConfigurationError | None:
    """Return why this host must not request bars from `provider`, its default one; None when it may.

    Otherwise bars of two providers, or synthetic and real bars, would form one series.
    """
    launched_for = _launched_for(context, PROVIDER_TAG)
    if launched_for is None or launched_for == provider:
        return None
    return ConfigurationError(
        f"the default provider of {socket.gethostname()} is {provider}, and that of the code location that launched "
        f"the run is {launched_for}: give all hosts the same EMA_PROVIDER"
    )


def _is_elsewhere(instance: DagsterInstance) -> bool:
    """Return whether the run may be on another host than the code server."""
    return not instance.is_ephemeral and launcher_name(instance) not in _OF_THIS_HOST


def _launched_for(context: AssetExecutionContext, tag: str) -> str | None:
    """Return the code location's `tag` of this step; None on its own host, and for a run without a stored plan."""
    stored = context.run.execution_plan_snapshot_id
    if stored is None or not _is_elsewhere(context.instance):
        return None
    if stored not in _tags:
        _tags.clear()
        steps = context.instance.get_execution_plan_snapshot(stored).steps
        _tags[stored] = {step.key: step.tags or {} for step in steps}
    return _tags[stored].get(context.op_execution_context.get_step_execution_context().step.key, {}).get(tag)
