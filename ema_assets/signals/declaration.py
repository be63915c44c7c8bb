"""What a signal declares. From it come its table, its asset and checks, its place in the graph, its docs. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from ema_assets.model.declarations import Column, Param, Params, changed_params

# Everything that the file of a signal needs.
__all__ = ["Column", "Param", "Params", "Signal"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One row per bar, computed from the bars and from other signals of the same series.

    Attributes:
        name: of the asset and of its table in the schema `market`: a lower-case identifier.
        description: what the UI says of the asset; the first line says what it is. Here and in the descriptions of
            columns, `{span}` stands for the value of the parameter `span`.
        version: raised when `compute` would give other values; every series is then computed again.
        reads: which columns of which assets: `{"ohlc": ("high", "low", "close")}`. Names must differ between assets.
        columns: of the table, behind its key (symbol, timeframe, ts).
        compute: bars, carried, params → rows; see below.
        params: what the configuration may change. Another value is another version.
        carries: the columns of a series' last row that `compute` goes on from.
        carries_nulls: True when a carried row may hold nulls. Otherwise such a series starts again from its first bar,
            as is right for an average that has not had all of its first values yet.
        bars_before: how many bars before the first new one `compute` must see, as windows do; from the parameters.
        has_sessions: True when `compute` wants the column `session`: the opening time of the bar's session, UTC.
        converged_after: after how many bars its beginning weighs less than a millionth, where that is known: until then
            the table marks a row as `warming_up`. Needs the column `bar_number`.
        check: what is wrong with parameters that are each within their limits, in one sentence; None when nothing is.
        group: of assets, in the UI.
        shown: columns whose last value stands on the page of a partition in the UI, and that charts draw; the first
            column when empty.
        on_price: True when the shown columns are prices: charts then draw them over the bars, else below them.

    `compute(bars, carried, params)` is pure. `bars` has symbol, ts, the columns of `reads`, `is_new` (False for those
    of `bars_before`), and `session` when wanted; sorted by symbol and ts. `carried` has symbol and `carries`, the row
    just before a symbol's first new bar; an absent symbol starts from nothing. It returns symbol, ts and `columns` for
    every bar in the same order; what it says of bars that are not new is dropped. However a history is cut into
    increments, the rows must come out the same.
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
        """The parameters as declared."""
        return {name: param.default for name, param in self.params.items()}

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of `columns`."""
        return tuple(column.name for column in self.columns)

    def code_version(self, params: Params) -> str:
        """The version with `params`: those that are not the default are named in it."""
        return " ".join([self.version, *changed_params(params, self.defaults)])
