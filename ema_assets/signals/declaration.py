"""The declaration of a signal, from which its table, asset, checks, place in the graph and docs are made. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from ema_assets.model.declarations import Column, Param, Params, changed_params, conflict_between
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.own_modules import told

# Everything that a signal's file needs for its declaration.
__all__ = ["Column", "Param", "Params", "Signal"]


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal: one row per bar, computed from the bars and from other signals of the same series.

    Attributes:
        name: Name of the asset and of its table in the schema `market`: a lower-case identifier.
        description: The asset's description in the UI. Its first line says what the signal is. Here and in the
            descriptions of columns, `{span}` stands for the value of the parameter `span`.
        version: Raised when `compute` would give other values; every series is then computed again.
        reads: The columns to read, by asset: `{"ohlc": ("high", "low", "close")}`. Names must differ between assets.
        columns: The columns of the table, after its key (symbol, timeframe, ts).
        compute: A function `bars, carried, params → rows`; see below.
        params: The parameters that the configuration may change. Another value is another version.
        carries: The columns of a series' last row from which `compute` continues.
        carries_nulls: Whether a carried row may contain nulls. If not, a series with such a row starts again from its
            first bar. This is right for an average that has not seen all of its first values yet.
        bars_before: A function of the parameters that returns how many bars before the first new bar `compute` must
            see. Windows need such bars.
        has_sessions: Whether `compute` needs the column `session`: the opening time of the bar's session, UTC.
        converged_after: The number of bars after which the beginning of the series weighs less than a millionth; None
            when it is unknown. Until then, the table marks rows as `warming_up`. Needs the column `bar_number`.
        check: A function of the parameters, each of which is within its limits. It returns one sentence that says why
            they do not fit together, or None when they do.
        group: The asset group in the UI.
        shown: The columns that charts draw, and whose last value the UI shows on the page of a partition; the first
            column when empty.
        on_price: Whether the shown columns are prices. Charts then draw them over the bars, otherwise below them.

    `compute(bars, carried, params)` is pure. `bars` has symbol, ts, the columns of `reads`, `is_new` (False for the
    bars of `bars_before`), and `session` with `has_sessions`; sorted by symbol and ts. `carried` has symbol and the
    columns `carries` of the row just before a symbol's first new bar; an absent symbol starts from nothing. `compute`
    returns symbol, ts and `columns` for every bar, in the same order. Rows of bars that are not new are dropped.
    However a history is cut into increments, the rows must be the same.
    """

    name: str
    description: str
    version: str
    reads: Mapping[str, tuple[str, ...]]
    columns: tuple[Column, ...]
    compute: Callable[[pl.DataFrame, pl.DataFrame, Params], pl.DataFrame]
    params: Mapping[str, Param] = field(default_factory=dict)
    carries: tuple[str, ...] = ()
    carries_nulls: bool = False
    bars_before: Callable[[Params], int] = lambda _: 0
    has_sessions: bool = False
    converged_after: int | None = None
    check: Callable[[Params], str | None] = lambda _: None
    group: str = "signals"
    shown: tuple[str, ...] = ()
    on_price: bool = False

    @property
    def defaults(self) -> Params:
        """The default value of each parameter."""
        return {name: param.default for name, param in self.params.items()}

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of `columns`."""
        return tuple(column.name for column in self.columns)

    def problem_with(self, params: Params) -> str | None:
        """Return why nothing can be computed with `params`, each of which is within its limits; None when it can."""
        try:
            conflict = conflict_between(params, self.check)
        except ConfigurationError as error:
            return str(error)
        if conflict:
            return conflict
        try:
            bars = self.bars_before(params)
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises is reported, without a traceback
            return f"`bars_before` must take these parameters: {told(error)}"
        if not isinstance(bars, int) or bars < 0:
            return f"`bars_before` must give a number of bars for these parameters, received {bars!r}"
        return None

    def code_version(self, params: Params) -> str:
        """Return the version, followed by every parameter that is not the default."""
        return " ".join([self.version, *changed_params(params, self.defaults)])
