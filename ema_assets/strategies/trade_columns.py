"""The columns of trades and of the state between two bars, and the words they contain. Nothing is computed here."""

from collections.abc import Iterable, Mapping

import polars as pl

from ema_assets.model.declarations import Column
from ema_assets.model.schemas import KINDS

LONG, SHORT = "long", "short"
OPEN, CLOSED = "open", "closed"

# Reasons for an exit that did not come from the rule. The rule's own reasons are in its declaration.
STOP, TRAILING_STOP, TARGET = "stop", "trailing_stop", "target"
SESSION_END = "session_end"
SESSION_MISSED = "session_missed"
# Only in a walk-forward.
WINDOW_END = "window_end"

# The time column in the key of a table of trades.
ENTRY_TIME = "entry_ts"

# Figures that accumulate over the bars of a trade. They are stored in the trade's row, and in the state while the trade
# is open. They are null from the first bar whose price is not above zero, because equity is not defined there.
PATH_COLUMNS = (
    Column("bar_returns_sum", "float8", "Sum of the returns of equity over the bars of the trade, costs included"),
    Column("bar_returns_square_sum", "float8", "Sum of the squares of these returns"),
    Column("bar_returns_negative_square_sum", "float8", "Sum of the squares of the negative ones"),
    Column("equity_peak", "float8", "Highest equity within the trade, as a multiple of the equity before entry"),
    Column("equity_peak_ts", "timestamptz", "Bar of the highest equity, UTC"),
    Column("equity_trough", "float8", "Lowest equity within the trade, as a multiple of the equity before entry"),
    Column("equity_trough_ts", "timestamptz", "Bar of the lowest equity, UTC"),
    Column("drawdown", "float8", "Deepest fall of equity from a peak within the trade, as a fraction"),
    Column("drawdown_peak_ts", "timestamptz", "Bar in which that fall began, UTC; null without one"),
    Column("drawdown_trough_ts", "timestamptz", "Bar in which that fall ended, UTC; null without one"),
)

TRADE_COLUMNS = (
    Column(ENTRY_TIME, "timestamptz", "Opening time of the bar of the entry, UTC", is_nullable=False),
    Column("side", "text", "long or short"),
    Column("entry_price", "float8", "Price of the entry", is_nullable=False),
    Column("entry_reason", "text", "Why the trade was entered"),
    Column("exit_ts", "timestamptz", "Opening time of the bar of the exit, UTC; null while open"),
    Column("exit_price", "float8", "Price of the exit; null while open"),
    Column("exit_reason", "text", "Why the trade was closed; null while open"),
    Column("last_ts", "timestamptz", "Bar the trade is marked to, UTC: the exit, or the newest bar", is_nullable=False),
    Column("last_price", "float8", "Exit price, or close of that bar", is_nullable=False),
    Column(
        "return_pct",
        "float8",
        "Gain in percent of the entry price, before costs; positive for a short trade when the price falls; null when "
        "the entry or the last price is not above zero",
    ),
    Column("net_return_pct", "float8", "The same after the costs of entry and exit"),
    Column("bars_held", "int8", "Bars from entry to last_ts", is_nullable=False),
    Column("stop_price", "float8", "Stop at entry; null without one"),
    Column("stop_now", "float8", "Stop after trailing, now or at the exit; null without one"),
    Column("target_price", "float8", "Target; null without one"),
    Column("r_multiple", "float8", "Gain as a multiple of the risk from entry to stop; null without a stop"),
    Column(
        "mae_pct",
        "float8",
        "Maximum adverse excursion in percent of the entry price, at most 0; null when one is not above zero",
    ),
    Column(
        "mfe_pct",
        "float8",
        "Maximum favourable excursion in percent of the entry price, at least 0; null when one is not above zero",
    ),
    Column("status", "text", "open or closed", is_nullable=False, choices=(OPEN, CLOSED)),
    *PATH_COLUMNS,
)

# The state just after a bar, from which the simulator continues. Without an open trade, `side` is 0 and the other
# columns of the trade are null. Without an order, `order_side` is 0 and the other columns of the order are null.
STATE_COLUMNS = (
    Column("side", "int8", "1 for an open long trade, -1 for a short one, 0 without one"),
    Column(ENTRY_TIME, "timestamptz", "Opening time of the bar of the entry, UTC"),
    Column("entry_price", "float8", "Price of the entry"),
    Column("entry_reason", "text", "Why the trade was entered"),
    Column("stop_price", "float8", "Stop at entry"),
    Column("stop_now", "float8", "Stop after trailing"),
    Column("target_price", "float8", "Target"),
    Column("last_ts", "timestamptz", "Bar the trade is marked to, UTC"),
    Column("last_price", "float8", "Close of that bar"),
    Column("bars_held", "int8", "Bars from entry to last_ts"),
    Column("worst_price", "float8", "Worst price since entry, by highs and lows"),
    Column("best_price", "float8", "Best price since entry, by highs and lows"),
    *PATH_COLUMNS,
    Column("exit_pending", "boolean", "True when the rule has closed the trade and the exit waits for the next open"),
    Column("order_side", "int8", "1 for a pending order to buy, -1 to sell, 0 without one"),
    Column("order_price", "float8", "Price of the order; null when it is for the next open"),
    Column("order_stop", "float8", "Stop of the trade that the order would open"),
    Column("order_atr", "float8", "ATR of the bar that placed the order"),
    Column("session", "timestamptz", "Opening time of the bar's session, UTC; null unless trades end with it"),
)

# Stored with each state, because it decides which states are kept.
BAR_NUMBER = Column("bar_number", "int8", "1 for the first bar of the series")


def _schema(columns: Iterable[Column]) -> Mapping[str, pl.DataType]:
    return {column.name: KINDS[column.kind] for column in columns}


TRADE_SCHEMA = _schema(TRADE_COLUMNS)
STATE_SCHEMA = _schema(STATE_COLUMNS)
