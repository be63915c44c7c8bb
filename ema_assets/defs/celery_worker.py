"""What Celery workers run: whole runs, as tasks of the app below. Needs the extra `cluster`; docs/CLUSTER.md."""

import os

from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task

from ema_assets.model.variables import text_of

# The same broker as the launcher in deploy/celery/dagster.yaml.
app = make_app({"broker": text_of(os.environ, "EMA_CELERY_BROKER"), "backend": "rpc://"})
# A process takes no run that another one could begin.
app.conf.worker_prefetch_multiplier = 1

execute_job = create_execute_job_task(app)
