"""The command line: `ema-assets …`. Reads arguments, prints, and turns every known error into one sentence."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import adbc_driver_manager
import click
import polars as pl
import psycopg2

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings, is_synthetic
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError, EmaAssetsError, not_one_of
from ema_assets.model.symbols import FROM_FILES, parse_symbol, parse_timeframe
from ema_assets.model.timeframes import ORDER
from ema_assets.model.urls import masked_url
from ema_assets.reports.screen import SORTS, screen, trends
from ema_assets.runtime import stack
from ema_assets.runtime.embedded import EmbeddedServer, read_running, without_libpq_settings
from ema_assets.store.database import Database, first_line
from ema_assets.store.migrations import migrate

# Of series that failed for one reason, `refresh` names this many.
_SHOWN_SERIES = 5


class _Commands(click.Group):
    """Commands in the order a newcomer needs them, and errors as one sentence."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EmaAssetsError as error:
            sentence = str(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read our output has gone; click ends quietly
                raise
            where = f"{error.filename}: " if error.filename else ""
            sentence = f"{where}{error.strerror or error}; EMA_HOME must be a folder that you may write to"
        except (psycopg2.Error, adbc_driver_manager.Error) as error:
            sentence = f"the database or its driver refused: {first_line(error)}"
        click.echo(f"Error: {sentence}", err=True)
        raise click.exceptions.Exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(metadata.version("ema-assets"), prog_name="ema-assets")
def main() -> None:
    """OHLC bars, EMA signals, EMA trends and a 9-30 EMA strategy as Dagster assets.

    Data lives under EMA_HOME (default: .ema in the current folder). Without EMA_DATABASE_URL an embedded PostgreSQL
    is used; without APCA_API_KEY_ID prices come from a local sandbox exchange and are synthetic.
    """
    if not os.environ.get("EMA_DATABASE_URL", "").strip():
        # A PGPASSWORD meant for another server would win over the embedded one's passfile.
        for name in os.environ.keys() - without_libpq_settings(dict(os.environ)).keys():
            del os.environ[name]
    _agree_on_time()


def _agree_on_time() -> None:
    """Go by the clock of the `up` that runs; where none does, this command starts the one that is asked for."""
    running = stack.read_state(Settings.from_env())
    text = running.clock if running else clock.started(os.environ.get(clock.VARIABLE, ""))
    if text or clock.VARIABLE in os.environ:
        os.environ[clock.VARIABLE] = text


@main.command("up")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=stack.DEFAULT_PORT,
    show_default=True,
    help="Port of the Dagster UI on 127.0.0.1.",
)
def up_command(port: int) -> None:
    """Start everything: database, sandbox exchange, Dagster. Ctrl-C stops it; the data stays."""
    sys.exit(stack.run(Settings.from_env(), port, click.echo))


@main.command("down")
@click.option(
    "--timeout", "timeout_seconds", type=float, default=60.0, show_default=True, help="Seconds to wait for the end."
)
def down_command(timeout_seconds: float) -> None:
    """Stop the `ema-assets up` that runs on this EMA_HOME."""
    settings = Settings.from_env()
    pid = stack.read_pid(settings)
    if pid is None:
        click.echo(f"Nothing runs on {settings.home}.")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_seconds
    while stack.is_alive(settings):
        if time.monotonic() > deadline:
            raise EmaAssetsError(
                f"process {pid} has not stopped within {timeout_seconds:g} s; its logs are in {settings.logs_folder}"
            )
        time.sleep(0.2)
    click.echo("Stopped.")


@main.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def status_command(as_json: bool) -> None:
    """Say what runs, where, and how fresh every asset is."""
    from ema_assets.reports import status

    settings = Settings.from_env()
    running = stack.read_state(settings)
    url = settings.database_url or read_running(settings.postgres_folder)
    assets: list[status.AssetStatus] = []
    failing: list[str] = []
    latency: list[dict[str, object]] = []
    not_answering: list[str] = []
    without_bars: list[str] = []
    if url is not None:
        migrate(url)
        with Database(url) as database, database.transaction() as transaction:
            assets = status.by_asset(transaction, clock.now(), settings.publication_delays)
            latency = status.latency(transaction, datetime.now(UTC))
            not_answering = status.not_answering(transaction)
            failing = [str(reason) for reason in status.failure_reasons(transaction)]
            without_bars = status.without_bars(transaction)
    report = {
        "running": running is not None,
        "pid": running.pid if running else None,
        "ui": running.ui if running else None,
        "database_url": masked_url(url) if url else None,
        "provider": running.provider if running else settings.provider,
        "synthetic": is_synthetic(running.provider if running else settings.provider),
        "sandbox_url": (running.provider_urls if running else settings.service_urls).get("sandbox"),
        "clock": str(settings.clock) if settings.clock else None,
        "home": str(settings.home),
        "watchlist": str(settings.watchlist_path),
        "assets": [asdict(each) for each in assets],
        "latency": latency,
        "not_answering": not_answering,
        "failing": failing,
        "without_bars": without_bars,
    }
    if as_json:
        click.echo(json.dumps(report, indent=2, default=_json_time))
        return
    click.echo(f"{'Running, UI at ' + running.ui if running else 'Not running; start it with `ema-assets up`'}")
    click.echo(f"Provider   {report['provider']}{' (SYNTHETIC prices)' if report['synthetic'] else ''}")
    click.echo(f"Database   {report['database_url'] or 'embedded, not running'}")
    if settings.clock is not None:
        click.echo(f"Clock      {settings.clock}: virtual, now {clock.now():%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"Home       {settings.home}")
    if assets:
        click.echo("")
        rows = [
            (
                each.asset,
                each.timeframe,
                *(str(number) for number in (each.series, each.stale, each.missing, each.failing)),
                f"{each.newest_ts:%Y-%m-%d %H:%M}" if each.newest_ts else "",
            )
            for each in assets
        ]
        _table(("asset", "timeframe", "series", "stale", "missing", "failing", "newest bar (UTC)"), rows)
    if latency:
        click.echo("")
        _table(
            ("from close to strategy row, last 7 days", "closes", "series", "p50", "p99"),
            [
                (
                    str(each["timeframe"]),
                    str(each["closes"]),
                    str(each["series"]),
                    f"{each['p50_seconds']:.1f} s",
                    f"{each['p99_seconds']:.1f} s",
                )
                for each in latency
            ],
        )
    for provider in not_answering:
        click.echo(provider)
    for reason in failing:
        click.echo(f"failing: {reason}")
    if without_bars:
        click.echo(f"the provider has no bars of {', '.join(without_bars)}; are the symbols right?")


def _json_time(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


@main.command("plan")
@click.option("--series", "each_series", is_flag=True, help="Also why each single series is stale.")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; may be given several times.")
def plan_command(symbols: Sequence[str], *, each_series: bool) -> None:
    """Say what would run now, and why. Changes nothing and asks no provider."""
    from ema_assets.refresh import plan
    from ema_assets.refresh.runs import plan_runs

    settings = Settings.from_env()
    watched = _watchlist(settings)
    _check_on(watched, symbols)
    now = clock.now()
    with _database(settings) as database, database.transaction() as transaction:
        stale = plan.stale_for_sweep(transaction, now, timedelta(0), settings.publication_delays).filter(
            pl.col("symbol").is_in(list(symbols or watched.symbols))
        )
        runs = plan_runs(stale, watched.symbols, [], settings.series_per_run)
        lines = plan.sentences(stale, runs)
        if each_series:
            lines += ["", *plan.series_sentences(transaction, stale)]
        if not runs:
            coming = plan.next_closes(transaction, ORDER[0], now)
            lines = ["Nothing is stale."]
            lines += [
                f"{calendar}: the next 5m bar closes {closes:%Y-%m-%d %H:%M} UTC"
                for calendar, _, closes in coming.rows()
            ]
    for line in lines:
        click.echo(line)


def _check_on(watched: watchlist.Watchlist, symbols: Sequence[str]) -> None:
    unknown = sorted(set(symbols) - set(watched.symbols))
    if unknown:
        raise ConfigurationError(f"not on the watchlist: {', '.join(unknown)}; `ema-assets symbols list` shows what is")


@main.command("refresh")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; may be given several times.")
@click.option("--timeframe", "timeframes", multiple=True, help="Only this timeframe; may be given several times.")
@click.option(
    "--all", "everything", is_flag=True, help="Also what is fresh: fetch and compute it again from the beginning."
)
def refresh_command(symbols: Sequence[str], timeframes: Sequence[str], everything: bool) -> None:
    """Bring what is stale up to date now, here, without Dagster.

    A Dagster that runs on the same database takes note of it within two minutes.
    """
    from ema_assets.operations.refresh_all import refresh_all
    from ema_assets.refresh.clients import open_provider
    from ema_assets.refresh.fetch import FetchRules
    from ema_assets.refresh.graph import build

    watched = _watchlist(Settings.from_env())
    settings = _with_providers(Settings.from_env(), watched)
    _check_on(watched, symbols)
    chosen = [parse_timeframe(text) for text in timeframes] or list(ORDER)
    failures = 0
    with _database(settings) as database:
        for asset, timeframe, outcome in refresh_all(
            database,
            watched,
            lambda name: open_provider(settings, name, database=database),
            FetchRules.of(settings, watched),
            list(symbols) or list(watched.symbols),
            sorted(chosen, key=lambda each: each.rank),
            graph=build(watched, settings.signals_folder),
            everything=everything,
        ):
            if outcome.done or outcome.errors:
                click.echo(
                    f"{asset:18} {timeframe.value:>3}  {len(outcome.done)} series, {outcome.rows} rows written"
                    + (f", {len(outcome.errors)} failed" if outcome.errors else "")
                )
            for reason, failed in _by_reason(outcome.errors).items():
                shown = ", ".join(f"{symbol}|{timeframe.value}" for symbol in failed[:_SHOWN_SERIES])
                more = f" and {len(failed) - _SHOWN_SERIES} more" if len(failed) > _SHOWN_SERIES else ""
                click.echo(f"  {shown}{more}: {reason}", err=True)
            failures += len(outcome.errors)
    if failures:
        raise EmaAssetsError(f"{failures} series failed; they are tried again after a pause")
    click.echo("Up to date.")


def _by_reason(errors: Mapping[str, str]) -> dict[str, list[str]]:
    """Symbols by what went wrong: when a provider is down, all say the same."""
    groups: dict[str, list[str]] = {}
    for symbol, reason in errors.items():
        groups.setdefault(reason, []).append(symbol)
    return groups


@main.group("symbols", cls=_Commands)
def symbols_group() -> None:
    """Show and change the watchlist."""


@symbols_group.command("list")
def symbols_list() -> None:
    """Print every symbol with its calendar."""
    watched = _watchlist(Settings.from_env())
    _table(
        ("symbol", "calendar", "bars from"),
        [(each.symbol, each.calendar, "files" if not each.is_fetched else "provider") for each in watched.instruments],
    )


@symbols_group.command("add")
@click.argument("symbols", nargs=-1, required=True)
@click.option("--calendar", help="Trading calendar: a code such as XNYS or XLON, or 24/7. Guessed when not given.")
def symbols_add(symbols: Sequence[str], calendar: str | None) -> None:
    """Add SYMBOLS such as NVDA, AZN.L or BTC-USD; a running Dagster loads their history."""
    settings = Settings.from_env()
    watchlist.ensure(settings.watchlist_path)
    wanted = [parse_symbol(symbol.upper()) for symbol in symbols]
    if calendar is not None:
        _check_calendar(calendar)
    added = watchlist.add_symbols(settings.watchlist_path, wanted, calendar)
    for instrument in watchlist.load(settings.watchlist_path).instruments:
        if instrument.symbol in added:
            click.echo(f"Added {instrument.symbol} ({instrument.calendar}).")
    for symbol in dict.fromkeys(wanted):
        if symbol not in added:
            click.echo(f"{symbol} is on the watchlist already.")
    if added and stack.read_state(settings) is not None:
        click.echo("Dagster picks this up within 30 seconds and loads the history.")


@symbols_group.command("remove")
@click.argument("symbols", nargs=-1, required=True)
def symbols_remove(symbols: Sequence[str]) -> None:
    """Take SYMBOLS off the watchlist; what is stored of them stays."""
    settings = Settings.from_env()
    wanted = [symbol.upper() for symbol in symbols]
    removed = watchlist.remove_symbols(settings.watchlist_path, wanted)
    for symbol in removed:
        click.echo(f"Removed {symbol}; its data stays.")
    missing = [symbol for symbol in wanted if symbol not in removed]
    if missing:
        raise ConfigurationError(f"not on the watchlist: {', '.join(missing)}")


def _check_calendar(calendar: str) -> None:
    from ema_assets.market.calendars import exchange_sessions

    today = clock.now().date()
    exchange_sessions(calendar, today, today)


@main.command("ingest")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--symbol", help="Symbol of a file that has no symbol column.")
@click.option("--timeframe", help="Timeframe of a file that has no timeframe column.")
@click.option(
    "--calendar", help="Trading calendar of symbols that are not on the watchlist yet. Guessed when not given."
)
def ingest_command(files: Sequence[Path], symbol: str | None, timeframe: str | None, calendar: str | None) -> None:
    """Store the bars of CSV or Parquet FILES.

    Columns: symbol, timeframe, ts (opening time; UTC unless it names a zone), open, high, low, close, volume. The bars
    go through the same checks as a provider's; a summary says what was stored, flagged, put aside and rejected, and how
    many bars are missing between the first and the last. `ema-assets quality` shows which. A symbol that is not on the
    watchlist is added to it as one whose bars come only from files.
    """
    from ema_assets.operations.ingest import read_file, store_file
    from ema_assets.operations.sync_watchlist import sync
    from ema_assets.refresh.graph import build

    settings = Settings.from_env()
    if symbol is not None:
        parse_symbol(symbol)
    if timeframe is not None:
        parse_timeframe(timeframe)
    if calendar is not None:
        _check_calendar(calendar)
    read = [(path, read_file(path, symbol, timeframe)) for path in files]
    watched = _watchlist(settings)
    new = [
        name for _, bars in read for name in bars["symbol"].unique(maintain_order=True) if name not in watched.symbols
    ]
    for name in watchlist.add_symbols(settings.watchlist_path, new, calendar, FROM_FILES):
        click.echo(
            f"Added {name} ({calendar or watchlist.likely_calendar(name)}) to the watchlist, its bars from files."
        )
    watched = watchlist.load(settings.watchlist_path)
    fetched = {each.symbol for each in watched.instruments if each.is_fetched}
    with _database(settings) as database:
        sync(database, watched, clock.now(), build(watched, settings.signals_folder))
        for path, bars in read:
            summaries = store_file(database, bars, path.name, clock.now())
            click.echo(f"{path}: {bars.height} bars read")
            rows = [
                (
                    f"{each.symbol}|{each.timeframe}",
                    str(each.stored),
                    str(each.corrected),
                    str(each.equal),
                    str(each.missing),
                    str(each.flagged),
                    str(sum(each.put_aside.values())),
                    str(sum(each.rejected.values())),
                    ", ".join(f"{count} {reason}" for reason, count in {**each.put_aside, **each.rejected}.items()),
                )
                for each in summaries
            ]
            _table(
                (
                    "series",
                    "stored",
                    "of these corrected",
                    "already there",
                    "missing",
                    "flagged",
                    "put aside",
                    "rejected",
                    "why",
                ),
                rows,
            )
            for each in summaries:
                if each.split is not None:
                    click.echo(
                        f"{each.symbol}|{each.timeframe}: the file is adjusted for a {each.split} split; what was "
                        "stored is on its scale now"
                    )
            mixed = (
                sorted({each.symbol for each in summaries if each.symbol in fetched}) if settings.is_synthetic else []
            )
            if mixed:
                click.echo(
                    f"Note: the sandbox is the provider, so newer bars of {', '.join(mixed)} are SYNTHETIC. "
                    'Take a symbol from files only by giving its group `provider = "file"` in the watchlist.'
                )
    if stack.read_state(settings) is not None:
        click.echo("Dagster computes what follows from it within a minute.")


@main.command("quality")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; may be given several times.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows shown of each kind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all rows instead of tables.")
def quality_command(symbols: Sequence[str], limit: int, as_json: bool) -> None:
    """Say what is wrong or odd about the stored bars: gaps, revisions, splits, flagged, rejected, put aside."""
    from ema_assets.reports import health

    settings = Settings.from_env()
    _check_on(_watchlist(settings), symbols)
    with _database(settings) as database, database.transaction() as transaction:
        report = health.quality(transaction, symbols, None if as_json else limit)
    if as_json:
        found = {kind: rows.to_dicts() for kind, (_, rows) in report.items()}
        click.echo(json.dumps(found, indent=2, default=_json_time))
        return
    for number, (kind, (count, rows)) in enumerate(report.items()):
        if number:
            click.echo("")
        shown = f", the newest {rows.height}:" if rows.height < count else ":" if count else ""
        click.echo(f"{kind}: {count}{shown}")
        if count:
            _table(rows.columns, [tuple(_cell(value) for value in row) for row in rows.iter_rows()])


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


@main.command("screen")
@click.option("--timeframe", default="1h", show_default=True, help="One of 5m, 15m, 30m, 1h, 4h, 1d.")
@click.option("--trend", type=click.Choice(["up", "down"]), help="Only symbols whose trend is this.")
@click.option("--crossed-within", type=click.IntRange(0), help="Only symbols that crossed at most so many bars ago.")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; may be given several times.")
@click.option("--sort", type=click.Choice(list(SORTS)), default="spread", show_default=True, help="What to sort by.")
@click.option(
    "--strategy", help="Whose open trades are shown, such as strategy_9_30_pullback.  [default: strategy_9_30_ema]"
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(1), help="Show this many rows at most.")
@click.option("--json", "as_json", is_flag=True, help="Print every column as a JSON list.")
def screen_command(  # noqa: PLR0913 - the options
    timeframe: str,
    trend: str | None,
    crossed_within: int | None,
    symbols: Sequence[str],
    sort: str,
    strategy: str | None,
    limit: int | None,
    *,
    reverse: bool,
    as_json: bool,
) -> None:
    """Show all symbols by trend, spread or nearness of the next cross.

    `cross at` is the exact next close at which EMA 9 and EMA 30 would meet, `to cross` how far that is from the last.
    `stop` is where the stop of the open trade is now, and how far the last close is from it.
    """
    settings = Settings.from_env()
    chosen = parse_timeframe(timeframe)
    watched = _watchlist(settings)
    _check_on(watched, symbols)
    if strategy is not None:
        _check_strategy(strategy, watched, settings)
    with _database(settings) as database, database.transaction() as transaction:
        rows = screen(
            transaction,
            chosen,
            symbols=symbols or None,
            trend=trend,
            crossed_within=crossed_within,
            sort=sort,
            reverse=reverse,
            limit=limit,
            strategy=strategy,
        )
    if as_json:
        click.echo(json.dumps(rows.to_dicts(), indent=2, default=_json_time))
    elif rows.is_empty():
        click.echo(f"No symbol on {timeframe} is like that.")
    else:
        _table(
            (
                "symbol",
                "bar (UTC)",
                "close",
                "trend",
                "since",
                "spread",
                "cross at",
                "to cross",
                "5m…1d",
                "RSI",
                "trade",
                "stop",
            ),
            [_screened(row, trends(row)) for row in rows.iter_rows(named=True)],
        )


def _check_strategy(name: str, watched: watchlist.Watchlist, settings: Settings) -> None:
    from ema_assets.refresh.graph import build

    known = build(watched, settings.signals_folder).strategies
    if name not in known:
        raise not_one_of("--strategy", name, known)


def _screened(row: Mapping[str, Any], arrows: str) -> tuple[str, ...]:
    trade = "" if row["trade_side"] is None else f"{row['trade_side']} {row['trade_return_pct']:+.2f} %"
    return (
        row["symbol"],
        _cell(row["ts"]),
        _cell(row["close"]),
        row["trend"] or "",
        "" if row["bars_since_cross"] is None else f"{row['bars_since_cross']} bars",
        _percent(row["spread_pct"]),
        _cell(row["cross_price"]),
        _percent(row["cross_distance_pct"]),
        arrows,
        "" if row["rsi"] is None else f"{row['rsi']:.1f}",
        trade,
        "" if row["stop_price"] is None else f"{_cell(row['stop_price'])} ({_percent(row['stop_distance_pct'])})",
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f} %"


@main.command("sandbox")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8930,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
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
        lambda: watchlist.load(settings.watchlist_path).instruments,
        chosen,
        clock=clock.now,
        started=lambda url: click.echo(
            f"Sandbox exchange, SYNTHETIC prices, on {url} (seed {chosen}). Ctrl-C stops it."
        ),
    )


@main.command("maintain")
def maintain_command() -> None:
    """Delete old runs and old rejected bars now, and refresh statistics. Dagster does it by itself once a day.

    What is old is said by EMA_RUN_RETENTION_DAYS (14), EMA_REJECTED_RETENTION_DAYS (90) and
    EMA_CORRECTION_RETENTION_DAYS (never). A run that holds the latest event of any partition is kept.
    """
    from ema_assets.operations.maintain import Retention, log_folder_remover, maintain

    settings = Settings.from_env()
    rules = Retention.of(settings)
    dagster_home = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home)
    with _database(settings) as database:
        done = maintain(database, rules, datetime.now(UTC), log_folder_remover(dagster_home / "storage"))
    for sentence in done.sentences(rules):
        click.echo(f"{sentence}.")


@main.command("migrate")
def migrate_command() -> None:
    """Bring the database at EMA_DATABASE_URL to this version. `up` and Dagster do it by themselves."""
    settings = Settings.from_env()
    with _database(settings, migrated=False) as database:
        applied = migrate(database.url)
    for migration in applied:
        click.echo(f"Applied {migration.number:04} {migration.name}.")
    if not applied:
        click.echo("Nothing to do.")


def _watchlist(settings: Settings) -> watchlist.Watchlist:
    watchlist.ensure(settings.watchlist_path)
    return watchlist.load(settings.watchlist_path)


def _with_providers(settings: Settings, watched: watchlist.Watchlist) -> Settings:
    """Settings with which all providers can be asked: their keys are there, and the addresses of those of ours.

    An address that is not set is that of the server which a running `up` has started.
    """
    running = stack.read_state(settings)
    settings = settings.with_addresses(running.provider_urls if running else {})
    for name in sorted(watched.providers(settings.provider)):
        settings.check_provider(name)
    return settings


@contextmanager
def _database(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """The database in use; the embedded server is started for the time of the block where nothing runs."""
    url = settings.database_url or read_running(settings.postgres_folder)
    server: EmbeddedServer | None = None
    if url is None:
        settings.home.mkdir(parents=True, exist_ok=True)
        server = EmbeddedServer(settings.postgres_folder)
        server.start()
        url = server.url
    try:
        if migrated:
            migrate(url)
        with Database(url) as database:
            yield database
    finally:
        if server is not None:
            server.stop()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
