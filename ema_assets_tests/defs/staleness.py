"""What Dagster itself says about staleness, queried through GraphQL as its UI does."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from dagster import DagsterInstance
from dagster._core.test_utils import in_process_test_workspace
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from ema_assets.defs.partitions import series_of
from ema_assets_tests.defs.conftest import GRAPH

_QUERY = """
    query ($keys: [AssetKeyInput!], $partitions: [String!]) {
        assetNodes(assetKeys: $keys) {
            assetKey { path }
            staleStatusByPartition(partitions: $partitions)
            staleCausesByPartition(partitions: $partitions) { category key { path } }
        }
    }
"""

SERIES = series_of(GRAPH)


def statuses(
    instance: DagsterInstance, assets: Sequence[str], partitions: Sequence[str] | None = None
) -> dict[tuple[str, str], str]:
    """Return FRESH, MISSING, or why a partition is stale, by asset and partition. By default, query all partitions.

    The reason is, for example, `DATA ohlc` when that input has changed.
    """
    wanted = SERIES.get_partition_keys(dynamic_partitions_store=instance) if partitions is None else partitions
    keys = [{"path": [asset]} for asset in assets]
    answer = ask(instance, _QUERY, {"keys": keys, "partitions": list(wanted)})
    found = {}
    for node in answer["assetNodes"]:
        (asset,) = node["assetKey"]["path"]
        said = zip(wanted, node["staleStatusByPartition"], node["staleCausesByPartition"], strict=True)
        for partition, status, causes in said:
            reasons = ", ".join(f"{cause['category']} {'.'.join(cause['key']['path'])}" for cause in causes)
            found[asset, partition] = reasons if status == "STALE" else status
    assert {asset for asset, _ in found} == set(assets)
    return found


def ask(instance: DagsterInstance, query: str, variables: Mapping[str, Any]) -> Any:
    """Return what the UI would get for a GraphQL query."""
    # This import takes a second, so only workers of pytest that call this function pay for it.
    from dagster_graphql.test.utils import execute_dagster_graphql

    origin = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="ema_assets_tests.defs.conftest", attribute="defs"
    )
    # Dagster reads properties of schedules that it has deprecated itself.
    with (
        warnings.catch_warnings(action="ignore", category=DeprecationWarning),
        in_process_test_workspace(instance, origin) as workspace,
    ):
        answer = execute_dagster_graphql(workspace, query, dict(variables))
    assert not answer.errors, answer.errors
    return answer.data


def stale(
    instance: DagsterInstance, assets: Sequence[str], partitions: Sequence[str] | None = None
) -> dict[tuple[str, str], str]:
    """Return the statuses that are not FRESH."""
    return {key: status for key, status in statuses(instance, assets, partitions).items() if status != "FRESH"}
