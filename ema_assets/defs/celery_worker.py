"""What Celery workers run: whole runs, as tasks of the app below. Needs the extra `cluster`; docs/CLUSTER.md."""

import os
from typing import Any

from celery import Task
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task

from ema_assets.defs.celery_queues import is_redis
from ema_assets.defs.celery_runs import execute_in_a_new_process, is_outdated, stopped_by_sigterm
from ema_assets.defs.resources import forget_run
from ema_assets.model.variables import text_of

# The same broker as the launcher in deploy/celery/dagster.yaml.
_BROKER = text_of(os.environ, "EMA_CELERY_BROKER")
app = make_app({"broker": _BROKER, "backend": "rpc://"})  # type: ignore[no-untyped-call, unused-ignore]
# With early acknowledgement, a worker would reserve one more run for each busy process although another process could
# begin it. Runs that a lost host had taken are delivered again; Dagster ignores a run that has begun before.
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
# Wait for a broker even when it is down for a night.
app.conf.broker_connection_max_retries = None
# RabbitMQ considers a host lost when it has been silent for two intervals.
app.conf.broker_heartbeat = 20
# Output of a run stays as it was printed, also with EMA_LOG_FORMAT=json, and does not become a warning of Celery.
app.conf.worker_redirect_stdouts = False
if is_redis(_BROKER):
    # Notice a broker that disappeared silently, instead of waiting for it.
    app.conf.broker_transport_options = {"socket_keepalive": True, "health_check_interval": 20}


class _Run(Task):  # type: ignore[misc, unused-ignore]
    """Dagster's task, which keeps its loaded code between runs."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        try:
            with stopped_by_sigterm():
                if is_outdated():
                    packed = named["execute_job_args_packed"]
                    return execute_in_a_new_process(unpack_value(packed, as_type=ExecuteRunArgs))
                return super().__call__(*given, **named)
        finally:
            # This process is alive, but a run whose end could not be written, e.g. on a full disk, must not look alive.
            forget_run()


# Nobody reads the results, and Redis would keep them forever. Dagster passes these options on to Celery unchanged.
_OPTIONS: dict[str, Any] = {"base": _Run, "ignore_result": True}
execute_job = create_execute_job_task(app, **_OPTIONS)
