"""The daily maintenance: one job of one step, and its schedule. What it does is in operations/maintain."""

from datetime import timedelta

from dagster import (
    DagsterRunStatus,
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    in_process_executor,
    job,
    op,
    schedule,
)

from ema_assets.defs.jobs import MAINTENANCE_JOB
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.requests import IN_FLIGHT, QUIET_CONFIG
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.run_tags import BACKGROUND_LANE, LANE_TAG, PRIORITY_TAG, UPKEEP_PRIORITY
from ema_assets.operations.maintain import Retention, maintain


def maintenance_job(namespace: Namespace = ALONE) -> JobDefinition:
    """Return the job, which has one step."""

    @op(name=namespace.name("tidy_up"))
    @namespace.own_resources
    def tidy_up(context: OpExecutionContext, store: StoreResource, market: MarketResource) -> None:
        """Delete old runs with their events and log files, old rejected bars; refresh statistics."""
        rules = Retention.of(namespace.settings())
        logs = context.instance.compute_log_manager
        with store.open() as database:
            done = maintain(database, rules, market.machine_now(), lambda run_id: logs.delete_logs(prefix=[run_id]))
        for sentence in done.sentences(rules):
            context.log.info(sentence)
        context.add_output_metadata(done.counts())

    @job(
        name=namespace.name(MAINTENANCE_JOB),
        # After everything live and before history is loaded, and never in the slots that are reserved for 5m.
        tags={LANE_TAG: BACKGROUND_LANE, PRIORITY_TAG: UPKEEP_PRIORITY},
        description=(
            "Keeps the database from growing: deletes old runs in which no event is the latest of its partition, and "
            "old bars that were rejected; refreshes statistics."
        ),
        executor_def=in_process_executor,
    )
    def maintenance() -> None:
        tidy_up()

    return maintenance


def maintenance_schedule(whole: JobDefinition, namespace: Namespace = ALONE) -> ScheduleDefinition:
    """Return the schedule of the job `whole`."""

    @schedule(
        name=whole.name,
        job=whole,
        # Most exchanges are closed then, and no bar closes at that minute.
        cron_schedule="17 5 * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Once a day.",
    )
    @namespace.own_resources
    def maintenance(context: ScheduleEvaluationContext, market: MarketResource) -> RunRequest | SkipReason:
        """Request one run, however many days were missed and however long the last run takes."""
        if market.machine_now() - context.scheduled_execution_time >= timedelta(days=1):
            return SkipReason("a later day's maintenance does this one's work too")
        if context.instance.get_runs(
            RunsFilter(job_name=whole.name, statuses=[*IN_FLIGHT, DagsterRunStatus.CANCELING]), limit=1
        ):
            return SkipReason("the last maintenance is not over yet")
        return RunRequest(run_key=context.scheduled_execution_time.date().isoformat(), run_config=QUIET_CONFIG)

    return maintenance
