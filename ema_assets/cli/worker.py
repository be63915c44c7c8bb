"""The command `worker`: executes runs on a further host. Celery does the work, in place of this process."""

import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from ema_assets.cli.commands import Command
from ema_assets.cli.options import WholeNumber
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings, named_watchlist
from ema_assets.defs.celery_queues import QUEUES, check_client
from ema_assets.model.errors import ConfigurationError, StoreUnavailable
from ema_assets.model.variables import text_of
from ema_assets.refresh.graph import configured
from ema_assets.store import diagnosis
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets.store.poolers import check_direct

_APP = "ema_assets.defs.celery_worker"


@click.command("worker", cls=Command)
@click.option(
    "--processes", type=WholeNumber(1, 256), default=2, show_default=True, help="How many runs it has at a time."
)
@click.option(
    "--runs-per-process",
    type=WholeNumber(1),
    default=100,
    show_default=True,
    help="A process is replaced after this many runs.",
)
@click.option(
    "--queues",
    default=",".join(QUEUES),
    show_default=True,
    help="Whose runs it takes: `live` has those of bars of 5m and shorter that have just closed, `slow` all others.",
)
def worker_command(processes: int, runs_per_process: int, queues: str) -> None:
    """Execute runs that Dagster on another host hands to Celery: docs/CLUSTER.md. SIGTERM lets them finish."""
    taken = [name.strip() for name in queues.split(",")]
    if not set(taken) <= set(QUEUES):
        raise ConfigurationError(f"`--queues` must be of {', '.join(QUEUES)}, received {queues!r}")
    if importlib.util.find_spec("dagster_celery") is None:
        raise ConfigurationError("a worker needs Celery: pip install 'ema-assets[cluster]'")
    settings = Settings.from_env()
    url = settings.database_url
    if url is None:
        raise ConfigurationError("a worker needs `EMA_DATABASE_URL`, the database that all hosts share")
    if not (broker := text_of(os.environ, "EMA_CELERY_BROKER")):
        raise ConfigurationError("a worker needs `EMA_CELERY_BROKER`, such as pyamqp://user:password@broker:5672//")
    check_client(broker)
    home = text_of(os.environ, "DAGSTER_HOME")
    if not (home and (Path(home) / "dagster.yaml").is_file()):
        raise ConfigurationError(
            "a worker needs `DAGSTER_HOME`, a folder with deploy/celery/dagster.yaml as dagster.yaml, received "
            f"{home or 'nothing'}"
        )
    _check_watchlist(settings)
    with suppress(StoreUnavailable):  # wait for a server that cannot be reached
        _check_database(url)
    options = ["-Q", ",".join(taken), "-c", str(processes), "--max-tasks-per-child", str(runs_per_process)]
    # Two workers with the same name, such as those of two queues on one host, lock each other out at the broker.
    options += ["-n", f"{'-'.join(taken)}-{os.getpid()}@%h", "-l", "WARNING"]
    os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", _APP, "worker", *options])  # noqa: S606 - Celery


def _check_watchlist(settings: Settings) -> None:
    """Refuse a watchlist, signals or strategies that no run could read: each would fail, and be launched again.

    Raises:
        ConfigurationError: naming the file and what is wrong.
    """
    if named_watchlist() is None and not settings.watchlist_path.exists():
        click.echo(
            f"This worker has no watchlist at {settings.watchlist_path}: only runs of a component in a defs.yaml can "
            "succeed here. Set EMA_WATCHLIST to the file that all hosts have.",
            err=True,
        )
        return
    # By itself the second one goes by the default watchlist where there is no file.
    watchlist.of(settings)
    configured(settings)


def _check_database(url: str) -> None:
    """Refuse a database in which no run of this worker could begin: it would take runs from others, and lose them.

    Raises:
        StoreUnavailable: when it cannot be reached.
        StoreError: when it has a newer version, or is behind a pooler.
        ConfigurationError: when the role may not write.
    """
    check_direct(url)
    migrate(url)
    with Database(url) as database, database.transaction() as transaction:
        found = diagnosis.server(transaction)
    if not found.may_write:
        raise ConfigurationError(
            f"a worker writes, and the role {found.role} of `EMA_DATABASE_URL` may not: log in as the database's owner"
        )
