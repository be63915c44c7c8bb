"""The columns of trades and of the state between bars, and the words in them. Nothing is computed here."""

from collections.abc import Mapping

import polars as pl

from ema_assets.model.schemas import KINDS

LONG, SHORT = "long", "short"
OPEN, CLOSED = "open", "closed"

# Why a trade was entered.
BULLISH_CROSSOVER, BEARISH_CROSSOVER = "bullish_crossover", "bearish_crossover"
PULLBACK = "pullback"

# Why a trade was left; both crossovers are reasons to leave, too.
STOP, TRAILING_STOP, TARGET = "stop", "trailing_stop", "target"
TREND_END = "trend_end"
SESSION_END = "session_end"
SESSION_MISSED = "session_missed"

# What is added up over the bars of a trade: in the trade's row, and in the state while it is open.
PATH_KINDS: Mapping[str, str] = {
    "bar_returns_sum": "float8",
    "bar_returns_square_sum": "float8",
    "bar_returns_negative_square_sum": "float8",
    "equity_peak": "float8",
    "equity_peak_ts": "timestamptz",
    "equity_trough": "float8",
    "equity_trough_ts": "timestamptz",
    "drawdown": "float8",
    "drawdown_peak_ts": "timestamptz",
    "drawdown_trough_ts": "timestamptz",
}

TRADE_KINDS: Mapping[str, str] = {
    "entry_ts": "timestamptz",
    "side": "text",
    "entry_price": "float8",
    "entry_reason": "text",
    "exit_ts": "timestamptz",
    "exit_price": "float8",
    "exit_reason": "text",
    "last_ts": "timestamptz",
    "last_price": "float8",
    "return_pct": "float8",
    "net_return_pct": "float8",
    "bars_held": "int8",
    "stop_price": "float8",  # as it was first
    "stop_now": "float8",  # as it is after trailing, or was at the exit
    "target_price": "float8",
    "r_multiple": "float8",
    "mae_pct": "float8",
    "mfe_pct": "float8",
    "status": "text",
    **PATH_KINDS,
}

# The state just after a bar. Without a trade the columns up to the path are null, but for `side`, which is 0; without
# an order those of the order are, but for `order_side`. `side` and `order_side` are 1 for long, -1 for short.
STATE_KINDS: Mapping[str, str] = {
    "side": "int8",
    "entry_ts": "timestamptz",
    "entry_price": "float8",
    "entry_reason": "text",
    "stop_price": "float8",
    "stop_now": "float8",
    "target_price": "float8",
    "last_ts": "timestamptz",
    "last_price": "float8",
    "bars_held": "int8",
    "worst_price": "float8",  # since entry, by highs and lows
    "best_price": "float8",
    **PATH_KINDS,
    "exit_pending": "boolean",  # a signal said so; it is done at the next open
    "order_side": "int8",
    "order_price": "float8",  # null: at the next open
    "order_stop": "float8",
    "order_atr": "float8",
    "session": "timestamptz",  # of the bar
}

TRADE_SCHEMA: Mapping[str, pl.DataType] = {name: KINDS[kind] for name, kind in TRADE_KINDS.items()}
STATE_SCHEMA: Mapping[str, pl.DataType] = {name: KINDS[kind] for name, kind in STATE_KINDS.items()}
