"""The commands `maintain` and `migrate`: looking after the database by hand. The work is done in other packages."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from ema_assets.cli import environment
from ema_assets.cli.commands import Command
from ema_assets.config.settings import Settings
from ema_assets.store.migrations import migrate


@click.command("maintain", cls=Command)
def maintain_command() -> None:
    """Delete old runs and old rejected bars now, and refresh statistics. Dagster does it by itself once a day.

    EMA_RUN_RETENTION_DAYS (14), EMA_REJECTED_RETENTION_DAYS (90) and EMA_CORRECTION_RETENTION_DAYS (never) say what is
    old. A run that holds the latest event of any partition is kept.
    """
    from ema_assets.operations.maintain import Retention, log_folder_remover, maintain

    settings = Settings.from_env()
    rules = Retention.of(settings)
    dagster_home = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home)
    with environment.open_database(settings) as database:
        done = maintain(database, rules, datetime.now(UTC), log_folder_remover(dagster_home / "storage"))
    for sentence in done.sentences(rules):
        click.echo(f"{sentence}.")


@click.command("migrate", cls=Command)
def migrate_command() -> None:
    """Bring the database at EMA_DATABASE_URL to this version. `up` and Dagster do it by themselves."""
    settings = Settings.from_env()
    with environment.open_database(settings, migrated=False) as database:
        applied = migrate(database.url)
    for migration in applied:
        click.echo(f"Applied {migration.number:04} {migration.name}.")
    if not applied:
        click.echo("Nothing to do.")
