"""The commands `maintain` and `migrate`: manual upkeep of the database. The work is done in other packages."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from ema_assets.cli import environment
from ema_assets.cli.commands import Command
from ema_assets.config.settings import Settings
from ema_assets.store import roles
from ema_assets.store.migrations import migrate


@click.command("maintain", cls=Command)
def maintain_command() -> None:
    """Delete old runs and old rejected bars now, and refresh statistics. Dagster does it automatically once a day.

    EMA_RUN_RETENTION_DAYS (14), EMA_REJECTED_RETENTION_DAYS (90) and EMA_CORRECTION_RETENTION_DAYS (never) say what is
    old. A run that holds the latest event of any partition is kept.
    """
    from ema_assets.operations.maintain import Retention, log_folder_remover, maintain

    settings = Settings.from_env()
    rules = Retention.of(settings)
    dagster_home = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home)
    with environment.open_existing(settings) as database:
        done = maintain(database, rules, datetime.now(UTC), log_folder_remover(dagster_home / "storage"))
    for sentence in done.sentences(rules):
        click.echo(f"{sentence}.")


@click.command("migrate", cls=Command)
def migrate_command() -> None:
    """Bring the database at EMA_DATABASE_URL to this version. `up` and Dagster do it automatically.

    Also makes the roles ema_reader, ema_metrics and ema_alerts where they are missing, and gives each its rights, as
    far as the user of the database may. It says what somebody who may create roles has to run.
    """
    settings = Settings.from_env()
    with environment.open_database(settings, migrated=False) as database:
        applied = migrate(database.url)
        with database.transaction() as transaction:
            done = roles.set_up(transaction)
    said = [f"Applied {migration.number:04} {migration.name}." for migration in applied]
    if done.made:
        said.append(f"Made the roles {', '.join(done.made)}.")
    if done.granted:
        said.append(f"Granted {', '.join(done.granted)} what they need.")
    for line in said or ["Nothing to do."]:
        click.echo(line)
    if done.lacking:
        click.echo(
            "The user of the database may not make all roles for those who only read. Have somebody who may create "
            "roles run this, and run `ema-assets migrate` again:"
        )
        for statement in done.lacking:
            click.echo(f"  {statement};")
