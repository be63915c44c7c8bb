"""Schemas of the frames that packages pass to each other, and the check of a frame against one. Computes nothing."""

from collections.abc import Mapping

import polars as pl

UTC_TIME = pl.Datetime("us", "UTC")

# The types of columns in tables: by PostgreSQL's name, the polars dtype.
KINDS: Mapping[str, pl.DataType] = {
    "float8": pl.Float64(),
    "int8": pl.Int64(),
    "text": pl.String(),
    "boolean": pl.Boolean(),
    "timestamptz": UTC_TIME,
}

PRICES = ("open", "high", "low", "close")

# Bars; `ts` is the opening time, UTC.
BAR_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "timeframe": pl.String(),
        "ts": UTC_TIME,
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
    }
)

# Suspicious bars that are stored nevertheless: a reason, which a bar has at most once, and the detail in words.
FLAG_SCHEMA = pl.Schema(
    {"symbol": pl.String(), "timeframe": pl.String(), "ts": UTC_TIME, "reason": pl.String(), "detail": pl.String()}
)

# Bars that are not stored, and why.
REFUSED_BAR_SCHEMA = pl.Schema({**BAR_SCHEMA, "reason": pl.String()})

# Trading sessions, one row per day and calendar, UTC. `break_start` and `break_end` are null without a lunch break;
# `regular_open` and `regular_close` are the exchange's own hours, which extended hours surround.
SESSION_SCHEMA = pl.Schema(
    {
        "calendar": pl.String(),
        "session": pl.Date(),
        "open": UTC_TIME,
        "break_start": UTC_TIME,
        "break_end": UTC_TIME,
        "close": UTC_TIME,
        "regular_open": UTC_TIME,
        "regular_close": UTC_TIME,
    }
)

# Runs of missing bars, from `first_ts` to `last_ts`, both missing.
GAP_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "first_ts": UTC_TIME,
        "last_ts": UTC_TIME,
        "bars": pl.Int64(),
        "status": pl.String(),
        "asked": pl.Int64(),
        "next_attempt_at": UTC_TIME,
        "found_at": UTC_TIME,
    }
)

# Stored closes of a series, with which served ones are compared.
STORED_CLOSE_SCHEMA = pl.Schema({"symbol": pl.String(), "ts": UTC_TIME, "close": pl.Float64(), "volume": pl.Float64()})

# Corporate actions. `kind`: one of ACTION_KINDS. `effective_at`: the first moment at which the instrument trades in the
# new way. `ratio` (old price over new; null for a spin-off of which only the shares are known), `amount` (the dividend
# per share) and `value` (the new symbol or currency, the acquirer, new shares per share) are null for kinds without
# them.
ACTION_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "kind": pl.String(),
        "effective_at": UTC_TIME,
        "ratio": pl.Float64(),
        "amount": pl.Float64(),
        "value": pl.String(),
    }
)
ACTION_KINDS = (
    *("split", "spin-off", "dividend", "currency change", "rename", "delisting"),
    *("stock dividend", "unit split", "merger", "redemption", "rights distribution"),
)

# What a provider says about instruments themselves. `state`: one of STATES; `unknown` if its list lacks the symbol.
# `since`: when the state began, null if it does not say. `detail`: the provider's own words, or the new symbol of a
# renamed instrument.
STATE_SCHEMA = pl.Schema(
    {"symbol": pl.String(), "state": pl.String(), "since": UTC_TIME, "detail": pl.String()},
)
STATES = ("active", "halted", "renamed", "delisted", "unknown")

# Series that seem to be on another scale: `ratio` is the stored price over the served one, `split` its name, such as
# `7:1`.
SUSPECT_SCHEMA = pl.Schema({"symbol": pl.String(), "ratio": pl.Float64(), "split": pl.String()})

# The series that an answer is about, one row per symbol. The answer has all bars that exist from `start` to before
# `end` (UTC); both are null if the span follows from the bars themselves. `is_fetched`: missing bars can be requested
# again from a provider. `advances`: the ledger records that bars up to `end` have been requested. `asked_at` and
# `final_through` are as in COMPLETED_SCHEMA.
ASKED_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "calendar": pl.String(),
        "is_fetched": pl.Boolean(),
        "start": UTC_TIME,
        "end": UTC_TIME,
        "advances": pl.Boolean(),
        "asked_at": UTC_TIME,
        "final_through": UTC_TIME,
    }
)

# What a write changed, one row per symbol with a change: the earliest changed time, and how many rows were written.
CHANGE_SCHEMA = pl.Schema({"symbol": pl.String(), "changed_from": UTC_TIME, "written": pl.Int64()})

# For bars also how many of the written ones replaced other values, and how many were added in the past.
BAR_CHANGE_SCHEMA = pl.Schema({**CHANGE_SCHEMA, "corrected": pl.Int64(), "late": pl.Int64()})


# The state of each series after a piece of work: from when on it changed (null if it did not), its first and last bar,
# up to when it was checked, what is still to be done (`dirty_…`, usually null), and for fetched bars when they were
# requested and up to when they are final.
COMPLETED_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "changed_from": UTC_TIME,
        "first_ts": UTC_TIME,
        "last_ts": UTC_TIME,
        "checked_through": UTC_TIME,
        "dirty_from": UTC_TIME,
        "dirty_end": UTC_TIME,
        "asked_at": UTC_TIME,
        "final_through": UTC_TIME,
    }
)

# The assets of the graph, and the inputs of each asset on each timeframe.
GRAPH_ASSETS_SCHEMA = pl.Schema({"asset": pl.String(), "is_on": pl.Boolean()})
GRAPH_INPUTS_SCHEMA = pl.Schema(
    {
        "asset": pl.String(),
        "timeframe": pl.String(),
        "reads": pl.String(),
        "reads_timeframe": pl.String(),
        "is_main": pl.Boolean(),
    }
)


class SchemaMismatch(TypeError):
    """A frame lacks columns or has other dtypes than its receiver expects."""


def with_numbers_only(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with null for NaN, because undefined values are null and databases sort NaN above every number.

    Raises:
        SchemaMismatch: when a value is infinite, with the `name` of the frame, the column and its symbol.
    """
    columns = [column for column, dtype in frame.schema.items() if dtype == pl.Float64]
    unlike = frame.select(pl.col(columns).is_finite().all()).row(0) if columns else ()
    suspects = [column for column, is_finite in zip(columns, unlike, strict=True) if not is_finite]
    for column in suspects:
        endless = frame.filter(pl.col(column).is_infinite())
        if not endless.is_empty():
            where = f" of {endless['symbol'][0]}" if "symbol" in frame.columns else ""
            raise SchemaMismatch(f"{name}: `{column}`{where} must be a number or null, received {endless[column][0]}")
    return frame.with_columns(pl.col(suspects).fill_nan(None)) if suspects else frame


def check_frame(name: str, frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> None:
    """Check that `frame` has the columns of `schema`, with these dtypes; it may have more, in any order.

    This takes about ten microseconds for any number of rows.

    Raises:
        SchemaMismatch: with the `name` of the frame, what was received and what is expected.
    """
    received = dict(zip(frame.columns, frame.dtypes, strict=True))
    wrong = [column for column, dtype in schema.items() if received.get(column) != dtype]
    if wrong:
        differences = ", ".join(
            f"`{column}` must be {schema[column]}, received {received.get(column, 'no such column')}"
            for column in wrong
        )
        raise SchemaMismatch(f"{name}: {differences}; the columns are {', '.join(received) or 'none'}")
