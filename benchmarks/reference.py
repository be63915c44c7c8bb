"""The page docs/REFERENCE.md, written from what the code declares: commands, variables, tables, signals, alerts.

    python -m benchmarks.reference [--file docs/REFERENCE.md]

Tables are read from an embedded PostgreSQL of its own, which has everything that an installation without a watchlist of
its own has. A test compares the page with what this module would write.
"""

import argparse
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import click
import polars as pl

from ema_assets.alerts import discovery as kinds
from ema_assets.cli import main as command_line
from ema_assets.config.settings import VARIABLES
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.declarations import Param, with_params
from ema_assets.model.timeframes import DEFAULT
from ema_assets.model.variables import Choice, HttpUrl, Number, Secret, Variable
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.providers import registry
from ema_assets.refresh.graph import Graph, build
from ema_assets.reports.screen import screener_columns
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.signals import discovery as signals
from ema_assets.store.database import Database, Transaction
from ema_assets.store.migrations import migrate
from ema_assets.strategies import rule_discovery as rules

PAGE = Path(__file__).parents[1] / "docs/REFERENCE.md"

# Tables and views, and their columns in order. Those of bars, signals and trades are partitioned: their parts are no
# tables to anybody who reads.
_COLUMNS = """
    SELECT n.nspname AS schema, c.relname AS name, c.relkind::text IN ('v', 'm') AS is_view,
           obj_description(c.oid, 'pg_class') AS comment, a.attname AS column,
           format_type(a.atttypid, a.atttypmod) AS type, col_description(c.oid, a.attnum) AS meaning
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname IN ('market', 'results') AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
    ORDER BY n.nspname COLLATE "C" DESC, c.relname COLLATE "C", a.attnum
"""
# Columns of every series that need no comment in each table.
_KEY = {"symbol": "An instrument of the watchlist", "timeframe": "The length of a bar, such as 5m"}
_KEY_OF_BARS = {"ts": "Opening time of the bar, UTC"}
_INTRODUCTION = """\
# Reference

Everything that has a name: commands, variables, tables, signals, rules, alerts and providers. The other pages say what
it is for. This page is written by `python -m benchmarks.reference` from what the code declares.
"""


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown with an empty line behind it; nothing without rows."""
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if lines:
        yield from (f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _code(text: object) -> str:
    return f"`{text}`"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- commands ---------------------------------------------------------------------------------------------------------


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            # A group that does something without a command of its own has a place, too.
            if command.invoke_without_command:
                yield f"{path} {name}", command
            yield from _commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


def _help(text: str) -> Iterator[str]:
    """The paragraphs of a command's help; those that keep their lines are examples."""
    for paragraph in text.split("\n\n"):
        lines = [line.strip() for line in paragraph.replace("\b", "").strip().splitlines()]
        if paragraph.lstrip(" \n").startswith("\b"):
            yield from ("```console", *lines, "```", "")
        else:
            yield from (" ".join(lines), "")


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for param in command.params:
        record = param.get_help_record(context)
        if isinstance(param, click.Option) and record is not None and not param.hidden:
            names, meaning = record
            yield _code(names.replace(" RANGE", "").replace("|", " or ")), _in_words(meaning)


def _in_words(meaning: str) -> str:
    """The limits of a number as a person writes them."""
    return re.sub(r"\bx>=(\d+)", r"at least \1", re.sub(r"(\d+)<=x<=(\d+)", r"\1 to \2", meaning))


def command_lines() -> Iterator[str]:
    """Every command with its help and its options, in the order of `ema-assets --help`."""
    yield from ("## Commands", "")
    for name, command in _commands(command_line, "ema-assets"):
        # A command keeps the option --help that it makes for its first context: it must be everybody's.
        settings = {**command_line.context_settings, "terminal_width": 10_000}
        context = click.Context(command, info_name=name, **settings)
        usage = " ".join((name, *command.collect_usage_pieces(context)))
        yield from (f"### {name}", "", "```text", usage, "```", "")
        yield from _help(command.help or "")
        yield from _table(("option", "meaning"), _options(command, context))


# --- variables --------------------------------------------------------------------------------------------------------


def _allowed(variable: Variable) -> str:
    match variable:
        case Number():
            return f"{variable.least} to {variable.most}"
        case Choice():
            return ", ".join(map(_code, variable.choices))
        case HttpUrl():
            return "an http or https URL"
        case Secret():
            return "a key"
    return "a text"


def variable_lines() -> Iterator[str]:
    """The environment variables of the project, and of each provider."""
    yield from ("## Environment variables", "", "An empty variable counts as not set.", "")
    of_providers = [each for config in registry.CONFIGS.values() for each in config.variables().values()]
    found = {each.name: each for each in (*VARIABLES, *of_providers)}
    yield from _table(
        ("variable", "default", "allowed", "meaning"),
        (
            (
                _code(each.name),
                "" if each.default is None else _code(each.default),
                _allowed(each),
                _sentence(each.meaning),
            )
            for each in found.values()
        ),
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def table_lines(transaction: Transaction, graph: Graph) -> Iterator[str]:
    """The tables and views of a database with their columns. Those with the same columns stand together."""
    yield from ("## Tables and views", "")
    yield from (
        "Read from the views in `results`: their names stay. The schema `market` is what they are made of. More on the",
        "figures of [performance](STRATEGIES.md#performance-figures) and of [the screener](RESULTS.md#the-screener).",
        "",
    )
    columns = transaction.query(_COLUMNS)
    meanings = _meanings(graph)
    alike: dict[tuple[str, tuple[tuple[str, str, str], ...]], list[str]] = {}
    comments: dict[str, str | None] = {}
    for (schema, name), rows in columns.group_by("schema", "name", maintain_order=True):
        described = tuple(_described(rows, {**meanings, **_meanings_in(f"{schema}.{name}")}))
        alike.setdefault((str(schema), described), []).append(f"{schema}.{name}")
        comments[f"{schema}.{name}"] = None if rows["is_view"][0] else rows["comment"][0]
    for (_, described), names in alike.items():
        yield from (f"### {', '.join(names)}", "")
        said = dict.fromkeys(comment for name in names if (comment := comments[name]) is not None)
        yield from (line for comment in said for line in (comment, ""))
        yield from _table(("column", "type", "meaning"), described)


# What a row of performance says; how each figure is computed stands in docs/STRATEGIES.md.
_PERFORMANCE = {
    "strategy": "The strategy, which is the name of its asset",
    "first_ts": "The first bar of the series, UTC",
    "last_ts": "The newest bar that the strategy has processed, UTC",
    "bars": "Bars from the first to the last",
    "trades": "Closed trades",
    "open_trades": "1 while a trade is open",
    "win_rate_pct": "Closed trades that gained, in percent of all closed ones",
    "average_win_pct": "Mean net return of those that gained",
    "average_loss_pct": "Mean net return of the others",
    "best_trade_pct": "Highest net return of a closed trade",
    "worst_trade_pct": "Lowest net return of a closed trade",
    "expectancy_pct": "Mean net return of closed trades",
    "profit_factor": "Gains divided by losses",
    "average_r": "Mean R of closed trades with a stop",
    "average_bars_held": "Mean length of closed trades, in bars",
    "total_return_pct": "Return of equity, with the open trade as it is marked",
    "annualized_return_pct": "The same per year",
    "max_drawdown_pct": "The deepest fall of equity",
    "max_drawdown_from": "Its peak, UTC; null without a fall",
    "max_drawdown_to": "Its trough, UTC; null without a fall",
    "exposure_pct": "Bars with a trade, in percent of all bars",
    "sharpe": "Sharpe ratio of the returns of bars, per year",
    "sortino": "Sortino ratio of the returns of bars, per year",
    "calmar": "Annualized return divided by the maximum drawdown",
    "most_won": "Longest streak of closed trades that gained",
    "most_lost": "Longest streak of the others",
    "costs_pct": "What the trades have cost, in percent of the equity at each entry",
    "buy_and_hold_pct": "From the first close to the newest one, without costs",
    "buy_and_hold_annualized_pct": "The same per year",
    "remark": "Why figures are null; null when there is nothing to say",
    "undefined_returns": "Trades on whose way a price was not above zero",
}


def _meanings_in(view: str) -> Mapping[str, str]:
    """What columns mean in `view` that mean something else, or do not stand, in the tables."""
    if view.startswith("results.screener"):
        return {name: meaning for name, _, meaning in screener_columns(DEFAULT)}
    return _PERFORMANCE if view in ("results.performance", "market.strategy_performance") else {}


def _meanings(graph: Graph) -> dict[str, str]:
    """What the columns of bars, signals and trades mean, but for those whose name means several things."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for node in graph.on:
        for column in node.columns:
            found[column.name].add(column.description)
    return {name: next(iter(meant)) for name, meant in found.items() if len(meant) == 1}


def _described(rows: pl.DataFrame, meanings: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Column, type and meaning. A column of a view means what the column of its name in the tables does."""
    known = {**meanings, **_KEY_OF_BARS} if rows["is_view"][0] else {}
    for column, kind, meaning in rows.select("column", "type", "meaning").iter_rows():
        found = meaning or _KEY.get(column) or known.get(column, "")
        yield _code(column), kind.replace("timestamp with time zone", "timestamptz"), found


# --- what is declared -------------------------------------------------------------------------------------------------


def _params(params: Mapping[str, Param]) -> Iterator[str]:
    def allowed(param: Param) -> str:
        if isinstance(param.default, bool):
            return "`true`, `false`"
        return ", ".join(map(_code, param.choices)) if param.choices else f"{param.least:g} to {param.most:g}"

    yield from _table(
        ("parameter", "default", "allowed", "meaning"),
        ((_code(name), _code(each.default), allowed(each), each.description) for name, each in params.items()),
    )


def signal_lines() -> Iterator[str]:
    """The signals, by their defaults."""
    yield from ("## Signals", "", "Parameters are set in `[signals.NAME]` of the watchlist: [Signals](SIGNALS.md).", "")
    for signal in signals.discover().values():
        reads = ", ".join(_code(f"{asset}.{column}") for asset, read in signal.reads.items() for column in read)
        said = with_params(signal.description, signal.defaults).rstrip(".")
        yield from (f"### {signal.name}", "", f"{said}. Reads {reads}.", "")
        yield from _params(signal.params)
        yield from _table(
            ("column", "type", "meaning"),
            ((_code(each.name), each.kind, with_params(each.description, signal.defaults)) for each in signal.columns),
        )


def rule_lines() -> Iterator[str]:
    """The rules of strategies, by their defaults."""
    yield from ("## Strategy rules", "", "A `[[strategy]]` row names one as `rule`: [Strategies](STRATEGIES.md).", "")
    for rule in rules.discover().values():
        yield from (f"### Rule {rule.name}", "", with_params(rule.description, rule.defaults), "")
        yield from _params(rule.params)


def alert_lines() -> Iterator[str]:
    """The kinds of alerts."""
    yield from ("## Kinds of alerts", "", "An `[[alert]]` names them in `on`: [Alerts](ALERTS.md).", "")
    for kind in kinds.discover().values():
        yield from (f"### Alert {kind.name}", "", kind.description, "")
        yield from _params(kind.params)


def provider_lines() -> Iterator[str]:
    """The providers that can be asked."""
    yield from ("## Providers", "", "How each is switched on: [Providers](PROVIDERS.md).", "")
    yield from _table(
        ("provider", "covers", "timeframes", "symbols per call", "a bar is requested after its close"),
        (
            (
                _code(each.name),
                each.covers,
                ", ".join(map(_code, each.timeframes)),
                str(each.symbols_per_call),
                _seconds(each.publication_delay),
            )
            for each in registry.PROVIDERS.values()
            if each.is_asked
        ),
    )


def _seconds(delay: timedelta) -> str:
    return f"{delay.total_seconds():g} s" if delay else "at once"


# --- the page ---------------------------------------------------------------------------------------------------------


def page(transaction: Transaction) -> str:
    """The whole page, from the code and a migrated database, in which the tables of the usual graph are made."""
    graph = build(Watchlist((), {}))
    adopt_graph(transaction, graph)
    parts: tuple[Callable[[], Iterator[str]], ...] = (
        *(command_lines, variable_lines, lambda: table_lines(transaction, graph)),
        *(signal_lines, rule_lines, alert_lines, provider_lines),
    )
    return "\n".join((_INTRODUCTION, *(line for part in parts for line in part()))).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=PAGE)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ema-reference-") as folder,
        EmbeddedServer(Path(folder) / "postgres") as server,
    ):
        migrate(server.url)
        with Database(server.url) as database, database.transaction() as transaction:
            asked.file.write_text(page(transaction), encoding="utf-8")
    print(asked.file)


if __name__ == "__main__":
    main()
