"""`ema-assets up`: database, servers of providers and Dagster together, in one process tree that ends together.

This module has the order in which they start and end. The parts themselves are in `services` and `dagster_parts`; what
happens when one ends by itself is in `restarts`.
"""

import os
import socket
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from signal import Signals
from typing import Any

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings, without_provider_keys
from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.urls import masked_url
from ema_assets.operations.end_pauses import forget_clock_ahead
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers import registry
from ema_assets.providers.declaration import Provider
from ema_assets.refresh.graph import build, configured
from ema_assets.runtime import alert_process, dagster_parts, state
from ema_assets.runtime.alert_process import AlertProcess
from ema_assets.runtime.alert_worker import Configuration
from ema_assets.runtime.code_location import CodeLocation
from ema_assets.runtime.edited_code import EditedCode
from ema_assets.runtime.news import News, Say, greet
from ema_assets.runtime.restarts import Aside, Beside, Part, Restarts, look_at_each
from ema_assets.runtime.services import HOST, Postgres, Service, answers, environment, free_port, without_secrets
from ema_assets.runtime.supervisor import Program, Supervisor
from ema_assets.store import diagnosis
from ema_assets.store.database import Database
from ema_assets.store.ledger import newest_checked_through
from ema_assets.store.migrations import migrate
from ema_assets.store.poolers import check_direct

DEFAULT_PORT = 3000
_LOOK_SECONDS = 3.0
# While a part waits for its restart.
_RESTART_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `up`: the port of the UI, a dagster.yaml to use instead of ours, ports of metrics and board.

    A port of None means no metrics, or no board.
    """

    port: int = DEFAULT_PORT
    dagster_yaml: Path | None = None
    metrics_port: int | None = None
    board_port: int | None = None


def run(settings: Settings, options: Options, say: Say) -> int:
    """Start everything, show progress, wait for a signal, stop everything; return the exit code.

    Raises:
        EmaAssetsError: when something cannot be started or does not stay up; everything started so far is stopped.
    """
    _check_ports_differ(options)
    settings.home.mkdir(parents=True, exist_ok=True)
    with state.only_one(settings), Supervisor() as supervisor:
        _check_port(options.port)
        if options.metrics_port is not None:
            _check_port(options.metrics_port, "--metrics-port")
        if options.board_port is not None:
            _check_port(options.board_port, "--board-port")
        watched = _checked_watchlist(settings)
        postgres = Postgres(settings.postgres_folder, supervisor) if settings.database_url is None else None
        try:
            if postgres is not None:
                say("Starting the embedded PostgreSQL …")
                postgres.start()
            _serve(_Start(settings, options, say, supervisor, watched, postgres))
            say("Stopping …")
            return 0
        finally:
            # Children first: they hold connections to the database.
            supervisor.close()
            if postgres is not None and postgres.stop():
                say("PostgreSQL keeps running for another command that uses it, which will stop it.")


@dataclass(frozen=True, slots=True)
class _Start:
    """What the parts are started from."""

    settings: Settings
    options: Options
    say: Say
    supervisor: Supervisor
    watched: Watchlist
    postgres: Postgres | None


def _serve(start: _Start) -> Signals:
    """Run everything except the database until a signal comes; return that signal."""
    url = start.postgres.url if start.postgres is not None else start.settings.database_url
    assert url is not None
    check_direct(url)
    migrate(url)
    with Database(url) as database:
        _prepare(start, database)
        env = environment(start.settings, url)
        parts: list[Part] = [] if start.postgres is None else [start.postgres]
        settings = start.settings
        for name in settings.unserved(start.watched.providers(settings.provider)):
            service, address = _start_service(start, env, registry.by_name(name))
            settings = settings.with_addresses({name: address})
            parts.append(service)
        start.say("Starting Dagster …")
        ui = f"http://{HOST}:{start.options.port}"
        edited = EditedCode(start.say, start.settings.home / "own_code.json")
        location = CodeLocation(ui, lambda: edited.looked(configured(Settings.from_env())).fingerprint, start.say)
        parts += _start_dagster(start, env, ui, location)
        port = start.options.metrics_port
        beside: list[Beside] = [] if port is None else [Aside(_start_metrics(start, env, port), start.say)]
        board = "" if start.options.board_port is None else f"http://{HOST}:{start.options.board_port}"
        if board:
            beside.append(Aside(_start_board(start, env, ui, board), start.say))
        _tell_commands(settings, ui, board)
        greet(settings, {"Dagster UI": ui, "Board": board}, masked_url(url), start.watched, start.say)
        alerts = Configuration()
        telling = AlertProcess(
            start.supervisor,
            alert_process.program(start.settings, env),
            lambda: alerts.now() is not None,
            start.say,
        )
        return _watch(start, database, parts, location, [*beside, telling])


def _prepare(start: _Start, database: Database) -> None:
    """Check and prepare the database before Dagster starts on it."""
    _check_time(start.settings, database)
    if start.postgres is None and (warning := few_connections(database)) is not None:
        start.say(warning)
    provider = start.settings.provider
    if forget_clock_ahead(database, start.watched, provider, datetime.now(UTC), clock.now()):
        start.say("The clock was set back since Dagster ran last; schedules and sensors do not wait for it.")
    own = start.settings.signals_folder, start.settings.strategies_folder
    sync(database, start.watched, clock.now(), build(start.watched, *own))


def _watch(
    start: _Start, database: Database, parts: list[Part], location: CodeLocation, beside: list[Beside]
) -> Signals:
    """Keep the parts running and report how loading goes; return the signal that ends this."""
    news = News(start.say)
    restarts = Restarts(parts, start.say)

    def look() -> None:
        if not restarts.look(time.monotonic()):
            return
        errors = [f"not loaded: {error}" for error in look_at_each([location, *beside], time.monotonic())]
        news.while_it_lasts(errors, "loaded again: the mistake is repaired")
        news.look(database)

    while True:
        seconds = _RESTART_LOOK_SECONDS if restarts.is_at_work else _LOOK_SECONDS
        signalled = start.supervisor.until_signalled(timeout_seconds=seconds)
        if isinstance(signalled, Signals):
            return signalled
        start.supervisor.interruptibly(look)


def _checked_watchlist(settings: Settings) -> Watchlist:
    """Return the watchlist, after checking that its providers and channels can be used."""
    watchlist.ensure(settings.watchlist_path)
    watched = watchlist.of(settings)
    for name in sorted(watched.providers(settings.provider)):
        settings.check_provider(name, is_starting=True)
    for channel in watched.alerts.used().values() if watched.alerts is not None else ():
        channel.url(os.environ)
    return watched


def _check_time(settings: Settings, database: Database) -> None:
    """Refuse a virtual time before that of stored bars: until it has caught up, nothing would look stale."""
    with database.transaction() as transaction:
        newest = newest_checked_through(transaction)
    if settings.clock is not None and newest is not None and newest > clock.now():
        raise ConfigurationError(
            f"`{clock.VARIABLE}` must not lie before the bars that are stored, received '{settings.clock}'; go on from "
            f"{newest:%Y-%m-%dT%H:%MZ}, or set EMA_HOME to another folder"
        )


def few_connections(database: Database) -> str | None:
    """Return a warning when the database has fewer free connections than a running `up` uses; otherwise None."""
    with database.transaction() as transaction:
        server = diagnosis.server(transaction)
    if not server.has_few_connections:
        return None
    return (
        f"Only {server.connections_free} of {server.connections} connections of the database are free, and a running "
        f"`up` uses about {diagnosis.CONNECTIONS_IN_USE}: parts will fail. Raise max_connections of the server, or the "
        "limit of the role or database."
    )


def _start_service(start: _Start, env: dict[str, str], provider: Provider[Any]) -> tuple[Service, str]:
    """Start the server of `provider`; return it with its address, which is added to `env` for all parts started later.

    A restart uses the same port, because the others use its address.
    """
    declared = provider.service
    assert declared is not None
    start.say(f"Starting the {provider.title}{' (synthetic prices)' if provider.is_synthetic else ''} …")
    port = free_port()
    argv = [sys.executable, "-m", "ema_assets", declared.command, "--port", str(port)]
    log = start.settings.logs_folder / f"{provider.name}.log"
    base_url = f"http://{HOST}:{port}"
    service = Service(
        start.supervisor,
        Program(f"the {provider.title}", argv, without_secrets(env), log),
        answers(f"{base_url}{declared.answers_at}"),
        f"at {base_url}",
    )
    service.start()
    env[provider.config.variables()["base_url"].name] = base_url
    return service, base_url


def _start_dagster(start: _Start, env: dict[str, str], ui: str, location: CodeLocation) -> list[Service]:
    dagster_parts.write_instance_file(start.settings, start.options.dagster_yaml, start.say)
    programs = dagster_parts.programs(start.settings, env, start.options.port)
    return dagster_parts.parts(start.supervisor, programs, ui, location)


def _start_board(start: _Start, env: dict[str, str], ui: str, address: str) -> Service:
    start.say("Starting the board …")
    port = address.rpartition(":")[2]
    argv = [sys.executable, "-m", "ema_assets", "board", "--port", port, "--dagster-url", ui]
    program = Program("the board", argv, without_provider_keys(env), start.settings.logs_folder / "board.log")
    board = Service(start.supervisor, program, answers(f"{address}/about"), f"at {address}")
    board.start()
    return board


def _start_metrics(start: _Start, env: dict[str, str], port: int) -> Service:
    start.say(f"Starting the metrics, at http://{HOST}:{port}/metrics …")
    argv = [sys.executable, "-m", "ema_assets", "metrics", "--port", str(port)]
    program = Program(
        "the metrics server", argv, without_provider_keys(env), start.settings.logs_folder / "metrics.log"
    )
    url = f"http://{HOST}:{port}/"
    service = Service(start.supervisor, program, answers(url), f"at {url}")
    service.start()
    return service


def _tell_commands(settings: Settings, ui: str, board: str) -> None:
    running = state.Running(
        pid=os.getpid(),
        ui=ui,
        provider=settings.provider,
        provider_urls=settings.service_urls,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        clock=str(settings.clock or ""),
        board=board,
    )
    state.write_state(settings, running)


def _check_ports_differ(options: Options) -> None:
    """Refuse one port for two servers: the second one could never start."""
    wanted = {
        "`--port`": options.port,
        "`--board-port` (without it, the port behind `--port`)": options.board_port,
        "`--metrics-port` (without it, `EMA_METRICS_PORT`)": options.metrics_port,
    }
    taken: dict[int, str] = {}
    for option, port in wanted.items():
        if port is None:
            continue
        if port in taken:
            raise ConfigurationError(f"{taken[port]} and {option} must be two ports, received {port} for both")
        taken[port] = option


def _check_port(port: int, option: str = "--port") -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise ConfigurationError(
                f"port {port} on {HOST} is in use; stop what listens there, or choose another with "
                f"`ema-assets up {option} {port + 1}`"
            ) from None
