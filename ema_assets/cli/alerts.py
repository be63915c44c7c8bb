"""The commands `alerts …`: which alerts go to whom, a test message, what was sent, and the process that sends."""

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import polars as pl

from ema_assets.alerts.channels import Channel
from ema_assets.alerts.declaration import Kind
from ema_assets.alerts.discovery import discover
from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command, Commands
from ema_assets.cli.options import WholeNumber
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError, EmaAssetsError, StoreError, first_of, not_one_of
from ema_assets.model.variables import text_of
from ema_assets.refresh.graph import build
from ema_assets.refresh.readable import readable
from ema_assets.runtime import locate
from ema_assets.store import alert_delivery
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate


@click.group("alerts", cls=Commands)
def alerts_group() -> None:
    """Show, test and deliver alerts: the rows `[[alert]]` of the watchlist."""


def _in_the_watchlist(settings: Settings) -> Alerts | None:
    """Return the checked alerts of the watchlist; None when there are none.

    An error elsewhere, for example in an own signal, becomes a warning: waiting alerts are delivered in any case.
    """
    watched = environment.read_watchlist(settings)
    folders = settings.signals_folder, settings.strategies_folder
    try:
        return build(watched, *folders).alerts
    except ConfigurationError:
        _, elsewhere = readable(replace(watched, alerts=None), *folders)
        if elsewhere is None:
            raise
    environment.warn_of(elsewhere, "tells of what was computed before")
    return watched.alerts


def _configured(settings: Settings) -> Alerts:
    """Return the checked alerts of the watchlist.

    Raises:
        ConfigurationError: when there are none.
    """
    alerts = _in_the_watchlist(settings)
    if alerts is None:
        raise ConfigurationError(
            f"{settings.watchlist_path} has no `[[alert]]`; docs/ALERTS.md shows how one is written, such as\n"
            '[[alert]]\non = ["crossover"]\nto = ["tgram://${TELEGRAM_TOKEN}/${TELEGRAM_CHAT}"]'
        )
    return alerts


@alerts_group.command("list", cls=Command)
@click.option("--kinds", is_flag=True, help="Explain the kinds of alerts that `on` may name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_command(*, kinds: bool, as_json: bool) -> None:
    """Show which alerts go to which channels, and how the channels are."""
    if kinds:
        _print_kinds(as_json=as_json)
        return
    settings = Settings.from_env()
    if as_json and _in_the_watchlist(settings) is None:
        rendering.print_json({"alerts": [], "channels": []})
        return
    alerts = _configured(settings)
    states = _states(settings)
    subscriptions = [_as_row(each) for each in alerts.subscriptions]
    channels = [
        _channel_row(channel, None if states is None else states.get(name, {}))
        for name, channel in alerts.used().items()
    ]
    if as_json:
        rendering.print_json({"alerts": subscriptions, "channels": channels})
        return
    rendering.print_table(list(subscriptions[0]), [tuple(map(str, row.values())) for row in subscriptions])
    click.echo("")
    rendering.print_table(list(channels[0]), [tuple(map(rendering.cell, row.values())) for row in channels])
    _print_remarks(alerts.subscriptions, environment.read_watchlist(settings))


def _print_remarks(subscriptions: Iterable[Subscription], watched: Watchlist) -> None:
    """Say which alerts about bars never come, because the bars of their symbols come only from files."""
    from_files = [each.symbol for each in watched.instruments if not each.is_fetched]
    for subscription in subscriptions:
        about = watched.symbols if subscription.symbols is None else subscription.symbols
        silent = [symbol for symbol in from_files if symbol in about]
        if silent and (kinds := [kind.name for kind in subscription.series_kinds()]):
            whose = "any symbol" if len(silent) == len(about) else first_of(silent, 5)
            click.echo(
                f"{subscription.name}: no {' or '.join(kinds)} of {whose} comes: bars from files cause no alerts"
            )


def _print_kinds(*, as_json: bool) -> None:
    kinds = discover().values()
    if as_json:
        rendering.print_json(
            [{"kind": kind.name, "about": kind.description, "keys": _defaults(kind)} for kind in kinds]
        )
        return
    for kind in kinds:
        click.echo(f"{kind.name}: {kind.description}")
        for name, default in _defaults(kind).items():
            click.echo(f"  {name} = {default}")


def _defaults(kind: Kind) -> dict[str, object]:
    return {name: param.default for name, param in kind.params.items()}


def _as_row(subscription: Subscription) -> dict[str, str]:
    symbols = "all symbols"
    if subscription.symbols is not None:
        symbols = first_of(sorted(subscription.symbols), 5)
    about = [symbols, *([", ".join(subscription.timeframes)] if subscription.timeframes else [])]
    about += [", ".join(subscription.strategies)] if subscription.strategies else []
    about += [", ".join(subscription.averages)] if subscription.averages else []
    limit = f"{subscription.messages_per_hour} messages per hour" if subscription.messages_per_hour else ""
    return {
        "alert": subscription.name,
        "on": ", ".join(subscription.kinds),
        "about": "; ".join(about),
        "to": ", ".join(subscription.to),
        "quiet": str(subscription.quiet or ""),
        "limit": limit,
    }


def _channel_row(channel: Channel, state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the row of a channel. `state` is None when no database with its state is running."""
    missing = [name for name in channel.variables if not text_of(os.environ, name)]
    said = "never used"
    if missing:
        said = f"{', '.join(missing)} not set"
    elif state is None:
        said = "unknown: the database is not running"
    elif state.get("failures"):
        said = f"takes no message: {state['last_error']}"
    elif state.get("last_sent_at"):
        said = "sound"
    return {
        "channel": channel.name,
        "service": channel.scheme,
        "variables": ", ".join(channel.variables),
        "state": said,
        "last sent (UTC)": state.get("last_sent_at") if state is not None else None,
        "waiting": state.get("waiting", 0) if state is not None else None,
    }


def _states(settings: Settings) -> dict[str, dict[str, Any]] | None:
    """Return the state of each channel by name; None when no database is running."""
    with locate.running_database(settings) as url:
        if url is None:
            return None
        migrate(url)
        with Database(url) as database, database.transaction() as transaction:
            found = alert_delivery.channels(transaction, datetime.now(UTC) - timedelta(days=1))
    return {str(row["channel"]): row for row in found.iter_rows(named=True)}


@alerts_group.command("test", cls=Command)
@click.option("--to", "names", multiple=True, help="Only this channel; may be given several times.")
def check_command(names: tuple[str, ...]) -> None:
    """Send a test message to every channel, and say which took it. Nothing else has to run.

    A channel that had taken no message and takes this one gets what waits for it within seconds.

    Channels have the names of `[channels]`; `ema-assets alerts list` shows those of URLs without a name.
    """
    from ema_assets.alerts import sending
    from ema_assets.alerts.messages import Message

    settings = Settings.from_env()
    alerts = _configured(settings)
    channels = {**alerts.channels}
    for name in names:
        if name not in channels:
            raise not_one_of("--to", name if "://" not in name else "a URL", channels)
    message = Message("ema-assets: test", "This channel works: alerts of ema-assets come here.", is_trouble=False)
    took, failed = [], 0
    for name in names or alerts.used():
        problem = sending.send(channels[name], message, os.environ)
        click.echo(f"{name}: {'sent' if problem is None else problem.reason}", err=problem is not None)
        if problem is None:
            took.append(name)
        else:
            failed += 1
    _end_pauses(settings, took)
    if failed:
        raise EmaAssetsError(f"{counted(failed, 'channel')} did not take the message")


def _end_pauses(settings: Settings, channels: list[str]) -> None:
    """Have messages that wait for `channels` sent now, if a database with their state is running."""
    with locate.running_database(settings) as url:
        if url is None or not channels:
            return
        with suppress(StoreError), Database(url) as database, database.transaction() as transaction:
            if alert_delivery.has_tables(transaction):
                for name in alert_delivery.end_pauses(transaction, channels):
                    click.echo(f"{name}: what waits for it is sent within seconds")


@alerts_group.command("log", cls=Command)
@click.option("--limit", type=WholeNumber(1), default=50, show_default=True, help="Show at most this many.")
@click.option("--state", type=click.Choice(["waiting", "sent", "given up"]), help="Only those in this state.")
@click.option("--to", "channel", help="Only those to this channel.")
@click.option("--json", "as_json", is_flag=True, help="Print every column as a JSON list.")
def log_command(limit: int, state: str | None, channel: str | None, *, as_json: bool) -> None:
    """Show what was raised, where it went and when, the newest first."""
    with environment.open_existing(Settings.from_env()) as database, database.transaction() as transaction:
        rows = alert_delivery.log(transaction, limit, state, channel)
    if as_json:
        rendering.print_json(rows.to_dicts())
    elif rows.is_empty():
        click.echo("Nothing was raised so far." if state is None and channel is None else "There is none like that.")
    else:
        _print_log(rows)


def _print_log(rows: pl.DataFrame) -> None:
    # The last columns are those that a narrow terminal leaves out first. What has happened tells of which kind it is.
    head = ("raised (UTC)", "series", "what", "state", "kind", "to", "alert")
    cells = []
    for row in rows.iter_rows(named=True):
        series = "" if row["symbol"] is None else f"{row['symbol']}|{row['timeframe']}"
        state = row["state"] if row["settled_at"] is None else f"{row['state']} {row['settled_at']:%H:%M:%S}"
        note = f": {row['note']}" if row["note"] else ""
        raised = f"{row['raised_at']:%Y-%m-%d %H:%M:%S}"
        text = row["text"] if row["strategy"] is None else f"{row['strategy']}: {row['text']}"
        cells.append((raised, series, text, f"{state}{note}", row["kind"], row["channel"] or "", row["subscription"]))
    rendering.print_table(head, cells)


@alerts_group.command("deliver", cls=Command)
@click.option("--once", is_flag=True, help="Send what is due and end.")
def deliver_command(*, once: bool) -> None:
    """Deliver alerts until stopped. `up` runs this automatically; with your own Dagster, it is a separate service."""
    from ema_assets.runtime.alert_worker import Configuration, deliver_until

    settings = Settings.from_env()
    alerts = _configured(settings)
    for channel in alerts.used().values():
        try:
            channel.url(os.environ)
        except ConfigurationError as error:
            # The other channels work, and `status` shows this one.
            click.echo(f"Warning: {error}", err=True)
    with environment.open_database(settings) as database:
        url = database.url
        configuration = Configuration()
        if once:
            _deliver_once(url, configuration)
            return
        stopped: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: stopped.append(received))
        deliver_until(lambda: bool(stopped), url, configuration, _say)


def _deliver_once(url: str, configuration: Any) -> None:
    from ema_assets.runtime.alert_worker import deliver_once

    configured = configuration.now()
    assert configured is not None
    done = deliver_once(url, configured)
    if not done.is_ours:
        click.echo("Another process delivers.")
        return
    click.echo(f"{counted(done.sent, 'alert')} sent.")
    for problem in done.failed:
        click.echo(problem, err=True)


def _say(line: str) -> None:
    click.echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}")
