"""The command `board`: the web page for traders, served until it is stopped. Its content is made in `board/`."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from ema_assets.cli import environment
from ema_assets.cli.commands import Command
from ema_assets.cli.options import WholeNumber, host_option
from ema_assets.config.settings import Settings
from ema_assets.model import clock, same_origin
from ema_assets.runtime import locate, state


@click.command("board", cls=Command)
@host_option
@click.option("--port", type=WholeNumber(0, 65535), default=3001, show_default=True, help="Port; 0 takes a free one.")
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A host name that browsers may use, in addition to this machine's own and those of EMA_ALLOWED_HOSTS; may be "
    "given several times.",
)
@click.option(
    "--dagster-url",
    metavar="URL",
    help="The Dagster UI that pages link to.  [default: that of the `ema-assets up` that runs]",
)
def board_command(host: str, port: int, allowed_hosts: Sequence[str], dagster_url: str | None) -> None:
    r"""Serve the board: heat map, charts, open trades, crossovers, performance, freshness.

    \b
    ema-assets board
    ema-assets board --port 8080 --dagster-url https://dagster.example.com

    `ema-assets up` serves it, too. It only reads.
    """
    from ema_assets.board.app import BoardOptions, create_app
    from ema_assets.board.listening import serve
    from ema_assets.board.overviews import Times
    from ema_assets.model.variables import HttpUrl

    settings = Settings.from_env()
    running = state.read_state(settings)
    if dagster_url is not None:
        dagster_url = HttpUrl("--dagster-url", None).read({"--dagster-url": dagster_url})
    default_provider = environment.default_provider(settings, running)
    hosts = same_origin.allowed_hosts() | same_origin.host_names(allowed_hosts, "--allow-host") | {host.lower()}
    locate.check_exists(settings)
    with _ended_by_sigterm(), locate.started_database(settings) as url:
        options = BoardOptions(
            database_url=url,
            dagster_url=dagster_url or (running.ui if running else None),
            default_provider=default_provider,
            allowed_hosts=hosts,
        )
        app = create_app(options, Settings.from_env, Times(clock.now, lambda: datetime.now(UTC)))
        serve(app, host, port, lambda at: click.echo(f"Board on {at}. Ctrl-C stops it."))


class _Terminated(KeyboardInterrupt):
    """SIGTERM was received: the process ends as by Ctrl-C."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that its resources are released; then it ends the process."""

    def end(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        # The sender sees by the exit status that the signal was heeded.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
