"""Failures of series, and the pauses before they are tried again. SQL only."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.ledger.row import FIRST_PAUSE_SECONDS, IN_ORDER, LONGEST_PAUSE_OF


def fail(
    transaction: Transaction,
    asset: str,
    timeframe: Timeframe,
    errors: Mapping[str, str],
    now: datetime,
    until: datetime | None = None,
    code: str | None = None,
) -> None:
    """Write that the symbols of `errors` could not be brought up to date, and why.

    The next attempt waits 30 s, twice as long after each further failure, an hour at most, each ±25 % at random. If all
    wait for the same thing, it waits until `until`. A symbol that has ended, or that its provider does not list, waits
    for up to SILENT_PAUSE_HOURS. `code` identifies the code that failed, if another edition of it may succeed; series
    that it has failed for together are tried again together, because an attempt for one may take as long as for all.
    """
    if not errors:
        return
    transaction.execute(
        f"""
        WITH failed AS MATERIALIZED (
            -- In the order in which runs lock them: see IN_ORDER.
            SELECT s.symbol, e.message FROM unnest($3::text[], $4::text[]) AS e(symbol, message)
            JOIN market.series_state s ON s.asset = $1 AND s.timeframe = $2 AND s.symbol = e.symbol
            ORDER BY s.symbol FOR NO KEY UPDATE OF s
        )
        UPDATE market.series_state s
        SET failures = s.failures + 1, last_error = e.message, failed_code = $8, updated_at = clock_timestamp(),
            next_attempt_at = coalesce($7::timestamptz, $5 + make_interval(secs =>
                least($6::float8 * 2 ^ least(s.failures, 20), {LONGEST_PAUSE_OF})
                * CASE WHEN $8::text IS NULL THEN 0.75 + random() / 2 ELSE 1 END))
        FROM failed e
        JOIN market.instrument i ON i.symbol = e.symbol
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = e.symbol
        """,
        asset,
        timeframe.key,
        list(errors),
        [message[:1000] for message in errors.values()],
        now,
        float(FIRST_PAUSE_SECONDS),
        until,
        code,
    )


def end_pauses(transaction: Transaction, symbols: Sequence[str], timeframes: Sequence[Timeframe]) -> None:
    """End the pauses after failures of the series of `symbols` on `timeframes`, for all assets."""
    transaction.execute(
        f"""
        WITH pausing AS MATERIALIZED (
            SELECT s.asset, s.symbol, s.timeframe FROM market.series_state s JOIN market.asset a USING (asset)
            WHERE s.failures > 0 AND s.next_attempt_at IS NOT NULL
              AND s.symbol = ANY ($1::text[]) AND s.timeframe = ANY ($2::text[])
            {IN_ORDER}
        )
        UPDATE market.series_state s SET next_attempt_at = NULL
        FROM pausing p WHERE (s.asset, s.symbol, s.timeframe) = (p.asset, p.symbol, p.timeframe)
        """,
        list(symbols),
        [timeframe.key for timeframe in timeframes],
    )


def forget_failures(transaction: Transaction, versions: Mapping[str, str]) -> None:
    """Forget failures of assets that were switched off until now, or have another version in `versions`.

    `versions` has the code version of each asset that is on. The failures were those of other code or another
    configuration, so the series are tried at once.
    """
    transaction.execute(
        """
        UPDATE market.series_state s
        SET failures = 0, next_attempt_at = NULL, last_error = NULL, updated_at = clock_timestamp()
        FROM market.asset a JOIN unnest($1::text[], $2::text[]) AS v(asset, version) ON v.asset = a.asset
        WHERE s.asset = a.asset AND s.failures > 0 AND s.asset <> $3
          AND (NOT a.is_on OR a.code_version <> v.version)
        """,
        list(versions),
        list(versions.values()),
        OHLC,
    )
