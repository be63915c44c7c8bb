"""Says why the series of a refresh were stale, in the words of `ema-assets plan`. No I/O."""

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from ema_assets.store import ledger

ASKED_FOR = "a person asked for it"


def why_claimed(claimed: pl.DataFrame, code_version: str, *, everything: bool) -> dict[str, str]:
    """Return by symbol why each series of `claimed` (`ledger.claim`) is computed now, by `code_version`."""
    if everything:
        return dict.fromkeys(claimed["symbol"].to_list(), ASKED_FOR)
    columns = (claimed[name].to_list() for name in ("symbol", "from_ts", "last_ts", "code_version"))
    rows = zip(*columns, strict=True)
    return {symbol: _why(from_ts, last_ts, version == code_version) for symbol, from_ts, last_ts, version in rows}


def _why(from_ts: datetime, last_ts: datetime | None, is_same_code: bool) -> str:
    if last_ts is None:
        return "never computed"
    if not is_same_code:
        return "its code or its parameters have changed"
    if from_ts > last_ts:
        return "new bars"
    if from_ts <= ledger.BEGINNING:
        return "input changed, from the first bar on"
    return f"input changed, from {from_ts:%Y-%m-%d %H:%M} UTC on"


def why_asked(
    state: pl.DataFrame, plan: pl.DataFrame, gaps: pl.DataFrame, older: pl.DataFrame, *, everything: bool
) -> dict[str, str]:
    """Return by symbol why bars of each series are requested.

    `state` is as `ledger.fetch_state` returns it; `plan`, `gaps` and `older` have the series of which the newest bars,
    missing bars, and bars before the first one are requested.
    """
    if everything:
        return dict.fromkeys(state["symbol"].to_list(), ASKED_FOR)
    found = dict.fromkeys(older["symbol"].to_list(), "older bars")
    found |= dict.fromkeys(gaps["symbol"].to_list(), "bars missing")
    found |= dict(_newest(plan.join(state.select("symbol", "checked_through"), on="symbol", how="left")))
    return found


def _newest(plan: pl.DataFrame) -> Iterator[tuple[str, str]]:
    for symbol, end, checked_through in plan.select("symbol", "end", "checked_through").iter_rows():
        if checked_through is None:
            yield symbol, "never asked"
        elif checked_through < end:
            yield symbol, f"bar closed {end:%Y-%m-%d %H:%M} UTC"
        else:
            yield symbol, "to be confirmed"
