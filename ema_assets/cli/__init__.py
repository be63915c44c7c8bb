"""The command line `ema-assets`: its commands in the order of help. Each family of commands has its own module."""

import click

from ema_assets.cli.actions import actions_group
from ema_assets.cli.alerts import alerts_group
from ema_assets.cli.archives import backup_command, restore_command
from ema_assets.cli.backtest import backtest_command
from ema_assets.cli.board import board_command
from ema_assets.cli.capacity import capacity_command
from ema_assets.cli.chart import chart_command
from ema_assets.cli.commands import Commands
from ema_assets.cli.doctor import doctor_command
from ema_assets.cli.export import export_command
from ema_assets.cli.ingest import ingest_command
from ema_assets.cli.quality import quality_command
from ema_assets.cli.refresh import plan_command, refresh_command
from ema_assets.cli.screen import screen_command
from ema_assets.cli.stack import down_command, metrics_command, sandbox_command, up_command
from ema_assets.cli.status import status_command
from ema_assets.cli.upkeep import maintain_command, migrate_command
from ema_assets.cli.watchlist import symbols_group
from ema_assets.cli.worker import worker_command


@click.group(
    cls=Commands,
    commands=[
        up_command,
        down_command,
        board_command,
        status_command,
        doctor_command,
        plan_command,
        refresh_command,
        symbols_group,
        ingest_command,
        actions_group,
        quality_command,
        screen_command,
        chart_command,
        backtest_command,
        alerts_group,
        export_command,
        sandbox_command,
        worker_command,
        metrics_command,
        capacity_command,
        maintain_command,
        backup_command,
        restore_command,
        migrate_command,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="ema-assets", prog_name="ema-assets")
def main() -> None:
    """OHLC bars, EMA signals, EMA trends and a 9-30 EMA strategy as Dagster assets.

    Data lives under EMA_HOME (default: .ema in the current folder). Without EMA_DATABASE_URL an embedded PostgreSQL
    is used; without a provider's keys prices come from a local sandbox exchange and are synthetic.
    """
