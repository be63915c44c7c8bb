"""Tags and priorities of runs: what Dagster uses, and what a person reads in the list of runs."""

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
# On a run for one partition.
PARTITION_TAG = "dagster/partition"
PRIORITY_TAG = "dagster/priority"
# Dagster logs no materializations for a run with this tag.
DEFER_TAG = "dagster/defer_asset_events"
# Bars that have just closed come first, the shortest at 0; then upkeep, bars that are requested again, and history.
REPAIR_PRIORITY, HISTORY_PRIORITY = -20, -40
UPKEEP_PRIORITY = "-15"
# For runs that a person requests: after everything that is late, before history.
BACKFILL_PRIORITY = "-30"
# `dagster.yaml` limits how many runs of the background lane run at a time, so that 5m always finds a free slot. Runs of
# backfills are in that lane.
LANE_TAG = "ema_assets/lane"
LIVE_LANE, BACKGROUND_LANE = "live", "background"
TIMEFRAME_TAG = "ema_assets/timeframe"
# What a run is for, in the words of a person who reads the list of runs.
PURPOSE_TAG = "for"
# On runs that load the whole history of new series.
HISTORY_TAG = "ema_assets/history"
# On runs that failed: the series that caused it.
FAILED_TAG = "failed"
# Tells the daemon whether a run that fails in a step is launched again; dagster.yaml says yes.
RETRY_RUN_TAG = "dagster/retry_on_asset_or_op_failure"
