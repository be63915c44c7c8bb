"""The states of symbols according to their providers: active, halted, renamed, delisted or unknown. SQL only."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.schemas import STATE_SCHEMA, check_frame
from ema_assets.store.database import Transaction


def claim(transaction: Transaction, provider: str | None, due: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Claim the symbols that `provider` (None for the default one) is to be asked about at `now`.

    These are symbols it was never asked about, and those last asked about before `due` (calendar, due_at). Only the
    caller that claims them asks; they are due again the next night.

    Returns:
        symbol, calendar, actions_through (up to when the provider has reported corporate actions, or null); sorted by
        symbol.
    """
    return transaction.query(
        """
        WITH wanted AS (
            SELECT i.symbol FROM market.instrument i
            LEFT JOIN unnest($2::text[], $3::timestamptz[]) AS d(calendar, due_at) ON d.calendar = i.calendar
            WHERE i.is_active AND i.is_fetched AND coalesce(i.provider, '') = $1
              AND (i.described_at IS NULL OR i.described_at < d.due_at)
            ORDER BY i.symbol FOR UPDATE OF i SKIP LOCKED
        ), taken AS (
            UPDATE market.instrument i SET described_at = $4 FROM wanted w WHERE i.symbol = w.symbol
            RETURNING i.symbol, i.calendar, i.actions_through
        )
        SELECT symbol, calendar, actions_through FROM taken ORDER BY symbol
        """,
        provider or "",
        due["calendar"],
        due["due_at"],
        now,
    )


def still_claimed(transaction: Transaction, symbols: Sequence[str], now: datetime) -> list[str]:
    """Return those of `symbols` that were claimed at `now` and have not got another provider since; sorted."""
    found = transaction.query(
        "SELECT symbol FROM market.instrument WHERE symbol = ANY ($1::text[]) AND described_at = $2 ORDER BY 1",
        list(symbols),
        now,
    )
    return [str(symbol) for symbol in found["symbol"]]


def note(transaction: Transaction, states: pl.DataFrame, source: str, now: datetime) -> None:
    """Write the `states` (STATE_SCHEMA) of symbols according to `source` at `now`.

    Raises:
        SchemaMismatch: when `states` has other columns.
    """
    check_frame(f"states of {source}", states, STATE_SCHEMA)
    transaction.execute(
        """
        UPDATE market.instrument i
        SET state = n.state, state_since = n.since, state_detail = n.detail, state_source = $5,
            state_noted_at = CASE WHEN i.state IS DISTINCT FROM n.state THEN $6 ELSE i.state_noted_at END
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) AS n(symbol, state, since, detail)
        WHERE i.symbol = n.symbol
          AND (i.state, i.state_since, i.state_detail, i.state_source)
              IS DISTINCT FROM (n.state, n.since, n.detail, $5)
        """,
        states["symbol"],
        states["state"],
        states["since"],
        states["detail"],
        source,
        now,
    )


def note_told(transaction: Transaction, symbols: Sequence[str], now: datetime) -> None:
    """Write that the provider of `symbols` has reported their corporate actions up to `now`."""
    transaction.execute(
        "UPDATE market.instrument SET actions_through = $2 WHERE symbol = ANY ($1::text[])", list(symbols), now
    )


def known(transaction: Transaction, symbols: Sequence[str] | None = None) -> pl.DataFrame:
    """Return watched symbols (None: all) that have a known state or are silent; sorted by symbol.

    Columns: symbol, state, since, detail, source, noted_at, silent_since (the opening time of its last day with bars;
    null when it is not silent).
    """
    return transaction.query(
        """
        SELECT symbol, state, state_since AS since, state_detail AS detail, state_source AS source,
               state_noted_at AS noted_at, silent_since
        FROM market.instrument
        WHERE is_active AND is_fetched AND (state IS NOT NULL OR silent_since IS NOT NULL)
          AND ($1 OR symbol = ANY ($2::text[]))
        ORDER BY 1
        """,
        symbols is None,
        list(symbols or ()),
    )
