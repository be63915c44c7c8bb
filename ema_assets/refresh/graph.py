"""Builds the graph of assets: bars, discovered signals and configured strategies. Nothing is stored here.

Every process builds it from the same declarations and the same watchlist. The sync of the watchlist writes it into the
database, so that the ledger knows what a change makes dirty.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist, load
from ema_assets.market import rollups
from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC
from ema_assets.model.averages import EMA, averaged, spans_text, trend_spans
from ema_assets.model.declarations import Column, Param, Params, problems_with_reads, with_params
from ema_assets.model.errors import WatchlistError, did_you_mean
from ema_assets.model.symbols import SEEDS
from ema_assets.model.timeframes import DEFAULT, Timeframe, with_bases
from ema_assets.signals.declaration import Signal
from ema_assets.signals.discovery import discover
from ema_assets.signals.of_spans import with_read
from ema_assets.store import tables
from ema_assets.store.tables import Table
from ema_assets.strategies import variant as variants
from ema_assets.strategies.trade_columns import BAR_NUMBER, ENTRY_TIME, STATE_COLUMNS, TRADE_COLUMNS
from ema_assets.strategies.variant import ALL, CONVERGED, Variant
from ema_assets.strategies.watchlist_rows import parse_variants

if TYPE_CHECKING:
    from ema_assets.alerts.subscriptions import Alerts

_ENTRIES = {
    CONVERGED: "A trade begins only once the averages have converged.",
    ALL: "A trade may begin before the averages have converged.",
}
_BAR_TS = Column("ts", "timestamptz", "Opening time of the bar, UTC; a 1d bar carries its session's open")
_TS = Column("ts", "timestamptz", "Opening time of the bar, UTC")


@dataclass(frozen=True, slots=True)
class Node:
    """One asset: its table, what it reads on its own timeframe, and how it is computed.

    Bars have neither `signal` nor `variant`. `columns` are the columns of the table after symbol and timeframe.
    """

    name: str
    table: Table
    reads: Mapping[str, tuple[str, ...]]
    columns: tuple[Column, ...]
    code_version: str
    description: str
    group: str
    signal: Signal | None = None
    params: Params = field(default_factory=dict)
    variant: Variant | None = None

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables in which the asset is stored: its own and, for a strategy, the table of its states."""
        if self.name == OHLC:
            return (tables.STORED_BARS,)
        return (self.table,) if self.variant is None else (self.table, self.states)

    @property
    def states(self) -> Table:
        """The table of the states from which a strategy continues."""
        comment = f"What {self.name} goes on from: its state just after some of the bars."
        return Table(f"{self.name}_state", "ts", (*STATE_COLUMNS, BAR_NUMBER), comment=comment)

    def touches(self, tables: Collection[str]) -> bool:
        """Return whether one of the asset's tables is named in `tables`."""
        return any(table.name in tables for table in self.tables)

    @property
    def main_input(self) -> str | None:
        """The input whose rows match the asset's own: a trend if it reads one, else its first input; None for bars."""
        trends = (name for name in self.reads if trend_spans(name) is not None)
        return EMA_TREND if EMA_TREND in self.reads else next(chain(trends, self.reads), None)

    def inputs(self, timeframes: Iterable[Timeframe]) -> list[tuple[str, Timeframe, str, Timeframe, bool]]:
        """Return the inputs on each of `timeframes`: asset, timeframe, input, the input's timeframe, is_main."""
        computed = list(timeframes)
        found = [
            (self.name, timeframe, source, timeframe, source == self.main_input)
            for timeframe in computed
            for source in self.reads
        ]
        if self.variant is not None and (higher := self.variant.higher_timeframe) is not None:
            trend = self.variant.trend
            found += [(self.name, timeframe, trend, higher, False) for timeframe in computed if timeframe < higher]
        return found


BARS = Node(
    name=OHLC,
    table=tables.BARS,
    reads={},
    columns=(_BAR_TS, *tables.BARS.columns),
    code_version=rollups.CODE_VERSION,
    description="Closed OHLC bars of every symbol and timeframe.",
    group="bars",
)


@dataclass(frozen=True, slots=True)
class Graph:
    """All assets, each after its inputs. The assets in `off` are switched off.

    `timeframes` are the timeframes on which anything is computed, shortest first. `alerts` says who is alerted of what;
    None if nobody is.
    """

    nodes: Mapping[str, Node]
    off: frozenset[str] = frozenset()
    timeframes: tuple[Timeframe, ...] = DEFAULT
    alerts: "Alerts | None" = None

    @property
    def with_bars(self) -> tuple[Timeframe, ...]:
        """The timeframes that have bars: `timeframes` and the ones that they are rolled up from."""
        return with_bases(self.timeframes)

    @property
    def on(self) -> tuple[Node, ...]:
        """The assets that are switched on."""
        return tuple(node for node in self.nodes.values() if node.name not in self.off)

    @property
    def strategies(self) -> list[str]:
        """The names of the strategies that are switched on."""
        return [node.name for node in self.on if node.variant is not None]

    @property
    def averages(self) -> dict[str, str]:
        """The computed trends, by the averages that they compare, such as `12/26`; `ema_trend` (EMA 9 and 30) first."""
        found = {spans_text(spans): node.name for node in self.on if (spans := trend_spans(node.name)) is not None}
        return dict(sorted(found.items(), key=lambda each: each[1] != EMA_TREND))

    def has(self, name: str) -> bool:
        """Return whether the asset `name` exists and is switched on."""
        return name in self.nodes and name not in self.off

    @property
    def computed(self) -> tuple[Node, ...]:
        """The assets that are switched on and computed from others."""
        return tuple(node for node in self.on if node.name != OHLC)

    def behind(self, timeframes: Collection[Timeframe]) -> list[tuple[Node, Timeframe]]:
        """Return the strategies (with timeframe) that read a longer timeframe which is also in `timeframes`.

        When `timeframes` are refreshed one after another, shortest first, these are behind afterwards.
        """
        return [
            (node, timeframe)
            for node in self.computed
            for timeframe in self.timeframes
            if timeframe in timeframes and node.variant is not None
            if node.variant.on(timeframe).higher_timeframe in timeframes
        ]

    @property
    def code_versions(self) -> dict[str, str]:
        """The code version of every asset."""
        return {node.name: node.code_version for node in self.nodes.values()}

    @property
    def fingerprint(self) -> str:
        """A hash that is equal for two graphs exactly when they compute the same assets in the same way.

        Whether there are alerts is part of it, because alerts need a sensor.
        """
        said: list[object] = [
            (node.name, node.code_version, node.table, node.inputs(self.timeframes)) for node in self.on
        ]
        if self.alerts is not None:
            said.append("alerts")
        return hashlib.sha256(repr((self.with_bars, said)).encode()).hexdigest()

    def assets(self) -> pl.DataFrame:
        """Return asset and is_on of every asset, for the ledger."""
        return pl.DataFrame(
            {"asset": list(self.nodes), "is_on": [name not in self.off for name in self.nodes]},
            schema={"asset": pl.String(), "is_on": pl.Boolean()},
        )

    def inputs(self) -> pl.DataFrame:
        """Return the inputs of every asset for the ledger: asset, timeframe, reads, reads_timeframe, is_main."""
        rows = [
            (asset, timeframe.key, source, source_timeframe.key, is_main)
            for node in self.nodes.values()
            for asset, timeframe, source, source_timeframe, is_main in node.inputs(self.timeframes)
        ]
        names = ("asset", "timeframe", "reads", "reads_timeframe")
        return pl.DataFrame(rows, schema={**dict.fromkeys(names, pl.String()), "is_main": pl.Boolean()}, orient="row")


def configured(settings: Settings) -> Graph:
    """Return the graph of the watchlist and the folders of signals and strategies in `settings`.

    A watchlist that does not exist yet counts as the default one.

    Raises:
        ConfigurationError: when one of them is wrong.
    """
    return build(watchlist_of(settings), settings.signals_folder, settings.strategies_folder)


def watchlist_of(settings: Settings) -> Watchlist:
    """Return the watchlist of `settings`, or the default one if it does not exist yet."""
    return load(settings.watchlist_path) if settings.watchlist_path.exists() else Watchlist((), {})


def build(watched: Watchlist, folder: Path | None = None, strategies_folder: Path | None = None) -> Graph:
    """Return the graph of the signals and strategies in `watched`, with the user's own signals in `folder`.

    `strategies_folder` has the user's own rules.

    Raises:
        ConfigurationError: naming the signal, parameter or strategy and what is allowed.
    """
    return build_with(watched, parse_variants(watched.strategies, watched.where, strategies_folder), folder)


def build_with(watched: Watchlist, parsed: Sequence[Variant], folder: Path | None = None) -> Graph:
    """Return the graph as `build` does, with the strategies `parsed` and not those of `watched`."""
    return build_of(watched, parsed, discover(folder))


def build_of(watched: Watchlist, parsed: Sequence[Variant], discovered: Mapping[str, Signal]) -> Graph:
    """Return the graph as `build_with` does, with signals that have already been discovered."""
    signals = with_read(discovered, chain.from_iterable(map(variants.reads, parsed)))
    nodes = {OHLC: BARS}
    params = _params(watched, signals)
    nodes |= {name: _signal(signal, params[name]) for name, signal in signals.items()}
    strategies = [_converging(each, signals) for each in parsed]
    nodes |= {each.name: _strategy(each) for each in strategies}
    _check_reads(nodes, watched.where)
    off = frozenset(watched.signals_off)
    _check_known("off", off, signals, watched.where)
    for node in nodes.values():
        if node.name not in off and (missing := sorted(off & node.reads.keys())):
            raise WatchlistError(
                f"{watched.where}: {', '.join(missing)} cannot be switched off while {node.name} reads it; switch "
                f"{node.name} off too"
            )
    _check_higher_timeframes(strategies, watched)
    graph = Graph(nodes, off, watched.timeframes, watched.alerts)
    if watched.alerts is not None:
        from ema_assets.refresh.raise_alerts import checked

        return replace(graph, alerts=checked(watched.alerts, graph, watched.where))
    return graph


def _check_higher_timeframes(strategies: Sequence[Variant], watched: Watchlist) -> None:
    """Refuse a strategy that waits for a trend that is not computed."""
    for variant in strategies:
        higher = variant.higher_timeframe
        lacking = [
            each.symbol
            for each in watched.instruments
            if higher is not None and higher not in each.timeframes and min(each.timeframes) < higher
        ]
        if lacking and higher is not None:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise WatchlistError(
                f"{watched.where}: {variant.name} reads the trend on {higher.key}, which is not among the "
                f"`timeframes` of {lacking[0]}{more}; add it there, or set another `higher_timeframe`"
            )


def _check_known(key: str, names: Collection[str], signals: Mapping[str, Signal], where: str) -> None:
    for name in names:
        if name not in signals:
            hint = did_you_mean(name, signals)
            raise WatchlistError(
                f"{where}: signals: `{key}` names no signal: {name!r}; there are {', '.join(signals)}{hint}"
            )


def _params(watched: Watchlist, signals: Mapping[str, Signal]) -> dict[str, Params]:
    emas = [name for name in signals if name == EMA_SIGNALS or ((said := averaged(name)) and said.kind == EMA)]
    given: dict[str, dict[str, Any]] = {name: dict(values) for name, values in watched.signal_params.items()}
    for name, values in given.items():
        _check_known(name, [name], signals, watched.where)
        if name in emas and "seed" in values:
            raise WatchlistError(f"{watched.where}: how EMAs start is set under `[ema]`, not `[signals.{name}]`")
    if watched.ema_seed != SEEDS[0]:
        for name in emas:
            given.setdefault(name, {})["seed"] = watched.ema_seed
    found: dict[str, Params] = {}
    for name, signal in signals.items():
        values = given.get(name, {})
        for key, value in values.items():
            _check_param(f"{watched.where}: signals.{name}", key, value, signal.params)
        found[name] = {**signal.defaults, **values}
        if problem := signal.problem_with(found[name]):
            raise WatchlistError(f"{watched.where}: signals.{name}: {problem}")
    return found


def _check_param(where: str, key: str, value: Any, params: Mapping[str, Param]) -> None:
    if key not in params:
        hint = did_you_mean(key, params)
        raise WatchlistError(f"{where}: unknown key `{key}`, allowed are {', '.join(params) or 'none'}{hint}")
    if problem := params[key].problem_with(value):
        raise WatchlistError(f"{where}: `{key}` {problem}")


def _signal(signal: Signal, params: Params) -> Node:
    columns = tuple(replace(each, description=with_params(each.description, params)) for each in signal.columns)
    description = with_params(signal.description, params)
    table = Table(
        signal.name,
        "ts",
        columns,
        flips=tables.CROSSOVERS if trend_spans(signal.name) is not None else None,
        comment=description.partition("\n")[0],
    )
    return Node(
        name=signal.name,
        table=table if signal.converged_after is None else tables.converging(table, signal.converged_after),
        reads=signal.reads,
        columns=(_TS, *columns),
        code_version=signal.code_version(params),
        description=description,
        group=signal.group,
        signal=signal,
        params=params,
    )


def _converging(variant: Variant, signals: Mapping[str, Signal]) -> Variant:
    """Return `variant` with the number of bars after which all its direct and indirect inputs have converged."""
    if variant.entries == ALL:
        return variant
    filters = (variant.trend,) if variant.is_filtered_by_trend else ()
    read, known = [*variant.rule_reads, *filters], set[str]()
    while read:
        name = read.pop()
        if name in signals and name not in known:
            known.add(name)
            read += signals[name].reads
    return replace(variant, converged_after=max((signals[name].converged_after or 0 for name in known), default=0))


def trades_table(strategy: str) -> Table:
    """Return the table of the trades of a strategy."""
    return Table(
        strategy,
        ENTRY_TIME,
        tuple(column for column in TRADE_COLUMNS if column.name != ENTRY_TIME),
        flips=tables.TRADES,
        comment="One row per trade; the open trade has no exit and is marked to the last close.",
    )


def _strategy(variant: Variant) -> Node:
    rule = variant.rule
    title, description = (with_params(text, variant.params) for text in (rule.title, rule.description))
    # Parameters that the texts already name are not repeated.
    options = "".join(
        f", {name} {value}"
        for name, value in variant.params.items()
        if f"{{{name}}}" not in rule.title + rule.description
    )
    return Node(
        name=variant.name,
        table=trades_table(variant.name),
        reads=variants.reads(variant),
        columns=TRADE_COLUMNS,
        code_version=variants.code_version(variant),
        description=(
            f"Trades of the {title} strategy, one row per trade. {description} The open trade is marked to "
            "the last close.\n\n"
            f"Side {variant.side}, filled at the {variant.fill.replace('_', ' ')}, costs of {variant.cost_bps:g} basis "
            f"points per side{options}. {_ENTRIES[variant.entries]} An example of a rule, not advice."
        ),
        group="strategies",
        variant=variant,
    )


def _check_reads(nodes: Mapping[str, Node], where: str) -> None:
    """Refuse strategies that read an asset or a column that does not exist."""
    known = {
        name: [column.name for column in node.columns if column.name != "ts"]
        for name, node in nodes.items()
        if node.variant is None
    }
    for node, rule in ((each, each.variant.rule) for each in nodes.values() if each.variant is not None):
        if problem := next(problems_with_reads(node.reads, known), None):
            raise WatchlistError(f"{where}: {node.name}, rule `{rule.name}`{rule.place}: {problem}")
