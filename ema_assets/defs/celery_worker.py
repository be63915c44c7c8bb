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
# A process takes no run that another one could begin: with early acknowledgement a worker would take one more for each
# process that is busy. What a lost host had taken is given to another one; Dagster ignores a run that has begun before.
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
# A broker that is away for a night is waited for.
app.conf.broker_connection_max_retries = None
# RabbitMQ takes a host for gone that was silent for two of them.
app.conf.broker_heartbeat = 20
# What a run prints is the line that it printed, with EMA_LOG_FORMAT=json too, and no warning of Celery.
app.conf.worker_redirect_stdouts = False
if is_redis(_BROKER):
    # A broker that went away without a word is noticed, and not waited for.
    app.conf.broker_transport_options = {"socket_keepalive": True, "health_check_interval": 20}


class _Run(Task):  # type: ignore[misc, unused-ignore]
    """Dagster's task, which keeps what it has loaded."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        try:
            with stopped_by_sigterm():
                if is_outdated():
                    packed = named["execute_job_args_packed"]
                    return execute_in_a_new_process(unpack_value(packed, as_type=ExecuteRunArgs))
                return super().__call__(*given, **named)
        finally:
            # A run whose end could not be written, such as on a full disk, must not look alive: this process is.
            forget_run()


# Nobody asks for the result, and Redis would keep it for ever. Dagster hands these on to Celery as they are.
_OPTIONS: dict[str, Any] = {"base": _Run, "ignore_result": True}
execute_job = create_execute_job_task(app, **_OPTIONS)
