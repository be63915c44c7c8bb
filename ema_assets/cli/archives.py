"""The commands `backup` and `restore`: the whole database in one file, and back. The work is done in `runtime`."""

from pathlib import Path

import click

from ema_assets.cli import environment
from ema_assets.cli.commands import Command
from ema_assets.config.settings import Settings
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError
from ema_assets.runtime import locate, state

_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command("backup", cls=Command)
@_file
@click.option("--with-dagster", is_flag=True, help="Also Dagster's runs and events, which may be much larger.")
@click.option("--overwrite", is_flag=True, help="Replace FILE when it exists.")
def backup_command(file: Path, *, with_dagster: bool, overwrite: bool) -> None:
    """Write the database to FILE: bars, results, ledger. Also while everything runs; it is one consistent moment.

    The watchlist and files of your own signals and strategies are not in it: copy them from EMA_HOME.
    """
    from ema_assets.runtime.postgres import archives

    settings = Settings.from_env()
    locate.check_exists(settings)
    with environment.open_database(settings, migrated=False) as database:
        size = archives.back_up(database.url, file, with_dagster=with_dagster, overwrite=overwrite)
    click.echo(
        f"Wrote {file}, {size / 1e6:,.1f} MB, {'with' if with_dagster else 'without'} Dagster's runs and events."
    )


@click.command("restore", cls=Command)
@_file
@click.option("--replace", is_flag=True, help="Delete what the database holds now.")
def restore_command(file: Path, *, replace: bool) -> None:
    """Restore the database from FILE of `ema-assets backup`: everything, or nothing when there is an error.

    An older backup is brought to this version.
    """
    from ema_assets.runtime.postgres import archives

    settings = Settings.from_env()
    if state.is_alive(settings):
        raise ConfigurationError(
            f"`ema-assets up` runs on {settings.home} and would write into a restore; stop it with `ema-assets down`"
        )
    # If there is no database yet, opening it would create one.
    archives.check_is_there(file)
    with environment.open_database(settings, migrated=False) as database:
        done = archives.restore(database.url, file, replace=replace)
    click.echo(f"Restored {file}, {'with' if done.archive.has_dagster else 'without'} Dagster's runs and events.")
    if done.migrations:
        click.echo(f"Applied {counted(done.migrations, 'newer migration')}.")
    if not settings.watchlist_path.exists():
        click.echo(f"The watchlist is not in it: put yours at {settings.watchlist_path}, or `up` writes a default.")
    for sentence in done.lost:
        click.echo(sentence, err=True)
    if done.series_to_record:
        click.echo(f"The next runs report {done.series_to_record} series to Dagster again.")
