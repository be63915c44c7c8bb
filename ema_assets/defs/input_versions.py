"""What Dagster looks up about a step's inputs before it begins: nothing when none of its events will name them.

A run for stale series logs its own materializations, with the inputs that the ledger has noted. Dagster reads the
newest event of every input nevertheless, which takes a tenth of such a step. Whatever it needs later, it looks up then.
This is not public API: when it is not as we know it, Dagster looks everything up.
"""

import inspect
from typing import Any

from ema_assets.defs.run_tags import DEFER_TAG

_NAME = "fetch_external_input_asset_version_info"
# The errors that appear when a part of Dagster that is not public was removed or changed.
_NOT_AS_KNOWN = (ImportError, AttributeError, TypeError, ValueError)
_dagsters: dict[str, Any] = {}


def install() -> bool:
    """Make steps call this module; return False when Dagster is not as we know it. Calling it again changes nothing."""
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
