"""The graph for processes that only read stored results. It leaves out what is wrong in the configuration.

Nothing is computed from it: a strategy that is left out here is not switched off.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.own_modules import files_of
from ema_assets.refresh.graph import Graph, build, build_of
from ema_assets.signals import discovery
from ema_assets.signals.declaration import Signal
from ema_assets.strategies import rule_discovery
from ema_assets.strategies.rule import Rule
from ema_assets.strategies.variant import Variant
from ema_assets.strategies.watchlist_rows import variants_of

_Found = TypeVar("_Found")


def readable(watched: Watchlist, folder: Path | None, strategies_folder: Path | None) -> tuple[Graph, str | None]:
    """Return the graph as `graph.build` does, and None; if that fails, a graph without the errors, and its message."""
    try:
        return build(watched, folder, strategies_folder), None
    except ConfigurationError as error:
        wrong = str(error)
    signals = _usable(folder, "signals", discovery.discover)
    parsed = _usable_variants(watched, _usable(strategies_folder, "strategies", rule_discovery.discover))
    # Readers raise no alerts. The settings of a signal that is left out are left out as well.
    known = replace(
        watched,
        alerts=None,
        signals_off=tuple(name for name in watched.signals_off if name in signals),
        signal_params={name: each for name, each in watched.signal_params.items() if name in signals},
    )
    known = known if _is_right(known, (), signals) else replace(known, signals_off=(), signal_params={})
    fitting: list[Variant] = []
    for variant in parsed:
        if _is_right(known, [*fitting, variant], signals):
            fitting.append(variant)
    return build_of(known, fitting, signals), wrong


def _usable(
    folder: Path | None, what: str, discover: Callable[[Path | None, Collection[Path]], Mapping[str, _Found]]
) -> Mapping[str, _Found]:
    """Return what `discover` finds without the files that it refuses; each is tried with the files accepted so far."""
    left_out = set() if folder is None or not folder.is_dir() else set(files_of(folder, what))
    found = discover(folder if left_out else None, left_out)
    before = None
    # A signal may read a signal in a later file.
    while left_out and before != left_out:
        before = set(left_out)
        for path in sorted(before):
            try:
                found = discover(folder, left_out - {path})
            except ConfigurationError:
                continue
            left_out.remove(path)
    return found


def _usable_variants(watched: Watchlist, rules: Mapping[str, Rule]) -> Sequence[Variant]:
    """Return the variants of the valid rows of the watchlist; each row is tried with the valid ones before it."""
    rows: list[Mapping[str, Any]] = []
    for row in watched.strategies:
        try:
            variants_of([*rows, row], watched.where, rules)
        except ConfigurationError:
            continue
        rows.append(row)
    return variants_of(rows, watched.where, rules)


def _is_right(watched: Watchlist, parsed: Sequence[Variant], signals: Mapping[str, Signal]) -> bool:
    try:
        build_of(watched, parsed, signals)
    except ConfigurationError:
        return False
    return True
