"""The states of symbols in sentences: active, halted, renamed, delisted, unknown, or without bars for some days."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from ema_assets.config import renames
from ema_assets.store import action_facts, ledger, states
from ema_assets.store.database import Transaction

# The possible reasons why a symbol has no further bars, when its provider says nothing.
WHY_SILENT = "it has ended, was renamed or is halted"
# States that somebody should know of. A symbol that its provider calls active may nevertheless be silent.
_NOTABLE = ("halted", "renamed", "delisted", "unknown")


def said_of(row: Mapping[str, Any]) -> str | None:
    """Return what the provider says of a symbol (a row of `states.known`), as a clause; None when it says nothing."""
    state, detail, source = row["state"], row["detail"], row["source"]
    if state is None:
        return None
    since = f" on {row['since']:%Y-%m-%d}" if row["since"] is not None else ""
    noted = "" if since or row["noted_at"] is None else f", noted on {row['noted_at']:%Y-%m-%d}"
    if state == "unknown":
        return f"{source} does not list it{noted}"
    if state == "renamed":
        return f"{source} says that it was renamed to {detail}{since}"
    words = f" ({detail})" if detail not in (None, state) else ""
    return f"{source} says that it {'was' if since else 'is'} {state}{since}{words}{'' if state == 'active' else noted}"


def silent_sentence(row: Mapping[str, Any]) -> str:
    """Return since when a symbol (a row of `states.known`) has no bars, why, and how often it is requested."""
    often = "week" if row["state"] in ("renamed", "delisted") else "day"
    why = said_of(row) or WHY_SILENT
    return f"no bar since {row['silent_since']:%Y-%m-%d}; {why}, and is requested once per {often}"


def silent(transaction: Transaction) -> list[str]:
    """Return a sentence for each silent symbol."""
    rows = states.known(transaction).drop_nulls("silent_since").iter_rows(named=True)
    return [f"{row['symbol']}: {silent_sentence(row)}" for row in rows]


def states_apart(transaction: Transaction) -> list[str]:
    """Return a sentence per symbol that is not silent, but halted, ended or not listed according to its provider."""
    rows = states.known(transaction).iter_rows(named=True)
    return [
        f"{row['symbol']}: {said_of(row)}" for row in rows if row["silent_since"] is None and row["state"] in _NOTABLE
    ]


def halted(transaction: Transaction, symbols: Sequence[str]) -> list[str]:
    """Return a sentence for each of `symbols` that its provider calls halted: nothing is wrong with it."""
    rows = states.known(transaction, symbols).filter(pl.col("state") == "halted").iter_rows(named=True)
    return [f"{row['symbol']}: {_silence(row) or said_of(row)}" for row in rows]


def problems(transaction: Transaction, symbols: Sequence[str], now: datetime) -> list[str]:
    """Return a sentence for each of `symbols` that was renamed, has ended, or is unknown to its provider; sorted.

    A rename up to `now`, from any source, comes with the commands to type. A halted symbol is no problem.
    """
    rows = {row["symbol"]: row for row in states.known(transaction, symbols).iter_rows(named=True)}
    # Later entries are better explanations and replace earlier ones.
    found = {
        **_without_bars(transaction),
        **{symbol: what for symbol, row in rows.items() if (what := _ended(row)) is not None},
        **_renamed(transaction, symbols, now, {symbol for symbol, row in rows.items() if row["state"] == "active"}),
    }
    wanted = set(symbols) - {symbol for symbol, row in rows.items() if row["state"] == "halted"}
    return [f"{symbol}: {what}" for symbol, what in sorted(found.items()) if symbol in wanted]


def _without_bars(transaction: Transaction) -> dict[str, str]:
    failing = ledger.failing(transaction).select("symbol", "last_error").iter_rows()
    return {
        **{symbol: str(error) for symbol, error in failing if "has no symbol" in str(error)},
        **{
            series.partition("|")[0]: "its provider has no bars of it; is it spelt right?"
            for series in ledger.without_bars(transaction)
        },
    }


def _ended(row: Mapping[str, Any]) -> str | None:
    return _silence(row) or (said_of(row) if row["state"] in _NOTABLE else None)


def _silence(row: Mapping[str, Any]) -> str | None:
    """Return since when a symbol has no bars, and why; None for a symbol that is not silent."""
    if row["silent_since"] is None:
        return None
    return f"no bar since {row['silent_since']:%Y-%m-%d}: {said_of(row) or WHY_SILENT}"


def _renamed(transaction: Transaction, symbols: Sequence[str], now: datetime, trading: set[str]) -> dict[str, str]:
    """Return what to type for each renamed symbol. A symbol that is still `trading` belongs to another company now."""
    since = {
        symbol: (value, f"{at:%Y-%m-%d}")
        for symbol, kind, at, value in action_facts.endings(transaction, symbols, now).iter_rows()
        if kind == "rename" and symbol not in trading
    }
    known = {symbol: (renamed.to, str(renamed.since)) for symbol in symbols if (renamed := renames.current(symbol))}
    return {
        symbol: f"renamed to {to} on {day}: `ema-assets symbols add {to}` and `ema-assets symbols remove {symbol}`"
        for symbol, (told, day) in {**since, **known}.items()
        if (to := newest.to if (newest := renames.current(told)) else told)
    }
