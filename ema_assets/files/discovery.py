"""Discovers the layouts: the modules of the folder `layouts` that declare one or several. Reads no file."""

import pkgutil
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module

from ema_assets.files import layouts
from ema_assets.files.cells import Table
from ema_assets.files.declaration import BY_NAME, Layout
from ema_assets.files.headless import are_prices_in_order

# How many rows are compared with a layout's form of cells. The order of the prices is checked in all rows.
_SAMPLED_ROWS = 5


@cache
def discover() -> tuple[Layout, ...]:
    """Return all layouts, sorted by name."""
    found = sorted(_declared(), key=lambda each: each.name.lower())
    names = [each.name for each in found]
    assert len(names) == len(set(names)), names
    return tuple(found)


def _declared() -> Iterator[Layout]:
    for module in pkgutil.iter_modules(layouts.__path__):
        declared = import_module(f"{layouts.__name__}.{module.name}")
        own = getattr(declared, "LAYOUT", None)
        yield from getattr(declared, "LAYOUTS", (own,) if own is not None else ())


def by_head(names: Sequence[str]) -> Layout:
    """Return the layout with the most marks that fits a head of `names`, as `columns.plain` spells them.

    If none fits, it is BY_NAME.
    """
    have = frozenset(names)
    fitting = [each for each in discover() if each.marks and each.marks <= have and not each.unless & have]
    return max(fitting, key=lambda each: len(each.marks), default=BY_NAME)


def by_rows(table: Table) -> Layout | None:
    """Return the layout of a table without a head, recognised by its rows; None when no layout fits."""
    rows = table.sample(_SAMPLED_ROWS)
    for each in discover():
        looks_so = each.row is not None and rows and all(each.row(row) for row in rows)
        if looks_so and are_prices_in_order(table, each.headless):
            return each
    return None
