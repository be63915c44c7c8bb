"""The commands `up`, `down`, `metrics` and `sandbox`: start and stop what serves the other commands."""

import os
import pwd
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from ema_assets.cli.commands import Command
from ema_assets.cli.options import WholeNumber, host_option
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model import clock, same_origin
from ema_assets.model.errors import EmaAssetsError
from ema_assets.runtime import log_lines, stack, state

METRICS_PORT = 9464


@click.command("up", cls=Command)
@click.option(
    "--port",
    type=WholeNumber(1, 65535),
    default=stack.DEFAULT_PORT,
    show_default=True,
    help="Port of the Dagster UI on 127.0.0.1.",
)
@click.option(
    "--board-port",
    type=WholeNumber(1, 65535),
    help="Port of the board on 127.0.0.1.  [default: the one behind --port]",
)
@click.option("--no-board", is_flag=True, help="Start no board.")
@click.option(
    "--dagster-yaml",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings of Dagster.  [default: dagster.yaml of the current folder if made from ours, else the built-in]",
)
@click.option(
    "--metrics-port",
    type=WholeNumber(1, 65535),
    help="Also serve metrics for Prometheus on this port of 127.0.0.1.  [default: EMA_METRICS_PORT, else none]",
)
def up_command(
    port: int, board_port: int | None, dagster_yaml: Path | None, metrics_port: int | None, *, no_board: bool
) -> None:
    """Start everything: database, sandbox exchange, Dagster, board. Ctrl-C stops it; the data stays."""
    settings = Settings.from_env()
    board = None if no_board else board_port or min(port + 1, 65535)
    options = stack.Options(port, dagster_yaml, metrics_port or settings.metrics_port, board)
    sys.exit(stack.run(settings, options, log_lines.speaker(settings.log_format, click.echo)))


@click.command("metrics", cls=Command)
@host_option
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    help="Port; 0 takes a free one.  [default: EMA_METRICS_PORT, else 9464]",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A host name that Prometheus may use, in addition to this machine's own; may be given several times.",
)
def metrics_command(host: str, port: int | None, allowed_hosts: Sequence[str]) -> None:
    """Serve metrics for Prometheus at /metrics. Reads the database and never writes.

    It needs no `up`, and outlives it: while the database does not run, the metrics say so.
    """
    names = same_origin.HERE | same_origin.host_names(allowed_hosts, "--allow-host") | {host.lower()}
    settings = Settings.from_env()
    taken = port if port is not None else settings.metrics_port or METRICS_PORT
    # Another process, because it imports Dagster, which the command line does not.
    served = [sys.executable, "-m", "ema_assets.metrics", host, str(taken), *sorted(names)]
    os.execv(sys.executable, served)  # noqa: S606


@click.command("down", cls=Command)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the end.",
)
def down_command(timeout_seconds: float) -> None:
    """Stop the `ema-assets up` that runs on this EMA_HOME."""
    settings = Settings.from_env()
    pid = state.read_pid(settings)
    if pid is None:
        click.echo(f"Nothing runs on {settings.home}.")
        return
    _ask_to_stop(pid)
    deadline = time.monotonic() + timeout_seconds
    while state.is_alive(settings):
        if time.monotonic() > deadline:
            raise EmaAssetsError(
                f"process {pid} has not stopped within {timeout_seconds:g} s; its logs are in {settings.logs_folder}"
            )
        time.sleep(0.2)
    click.echo("Stopped.")


def _ask_to_stop(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has ended since its pid was read
    except PermissionError:
        raise EmaAssetsError(
            f"process {pid} belongs to {_owner(pid)} and you may not stop it; its owner can, with `ema-assets down`"
        ) from None


def _owner(pid: int) -> str:
    """Return the owner of process `pid`, as far as the system tells."""
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return "another user"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user with the number {uid}"


@click.command("sandbox", cls=Command)
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    default=8930,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--seed",
    type=WholeNumber(0),
    default=None,
    help="Seed of the synthetic prices. [default: EMA_SANDBOX_SEED or 930]",
)
def sandbox_command(port: int, seed: int | None) -> None:
    """Run the sandbox exchange alone: synthetic prices in the formats of real providers, on 127.0.0.1."""
    from ema_assets.providers import sandbox
    from ema_assets.sandbox.server import serve

    settings = Settings.from_env()
    watchlist.ensure(settings.watchlist_path)
    chosen = settings.config_of(sandbox.PROVIDER).seed if seed is None else seed
    serve(
        port,
        lambda: watchlist.of(settings).instruments,
        chosen,
        clock=clock.now,
        started=lambda url: log_lines.speaker(settings.log_format, click.echo, "ema_assets.sandbox")(
            f"Sandbox exchange, SYNTHETIC prices, on {url} (seed {chosen}). Ctrl-C stops it."
        ),
    )
