"""What Dagster looks up of a step's inputs before it begins: nothing where no event of its own will name them.

A run for stale series logs its materializations by itself, with the inputs that the ledger has noted. Dagster reads the
newest event of every input nevertheless: a tenth of such a step. What it asks for later it looks up then. This is not
public API: when it is not as we know it, Dagster looks everything up.
"""

import inspect
from typing import Any

from ema_assets.defs.run_tags import DEFER_TAG

_NAME = "fetch_external_input_asset_version_info"
# What it looks like when a part of Dagster that is not public has gone or has changed.
_NOT_AS_KNOWN = (ImportError, AttributeError, TypeError, ValueError)
_dagsters: dict[str, Any] = {}


def install() -> bool:
    """Have steps ask this module; False when Dagster is not as we know it. Calling it again changes nothing."""
    try:
        from dagster._core.execution.context.system import StepExecutionContext

        fetch = getattr(StepExecutionContext, _NAME)
        if fetch is _fetch:
            return True
        is_known = list(inspect.signature(fetch).parameters) == ["self"]
        is_known &= callable(StepExecutionContext.maybe_fetch_and_get_input_asset_version_info)
    except _NOT_AS_KNOWN:
        return False
    if is_known:
        _dagsters[_NAME] = fetch
        setattr(StepExecutionContext, _NAME, _fetch)
    return is_known


def _fetch(step: Any) -> None:
    if step.dagster_run.tags.get(DEFER_TAG) != "true":
        _dagsters[_NAME](step)
