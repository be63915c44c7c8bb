"""The timeframes that the database knows: those that are on now, and those that were on before. SQL only."""

from collections.abc import Iterable

from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.store.database import Transaction


def sync_timeframes(transaction: Transaction, timeframes: Iterable[Timeframe]) -> None:
    """Add `timeframes` to those that the database knows already."""
    wanted = list(timeframes)
    transaction.execute(
        """
        INSERT INTO market.timeframe AS t (timeframe, source)
        SELECT timeframe, nullif(source, '') FROM unnest($1::text[], $2::text[]) AS n(timeframe, source)
        ON CONFLICT (timeframe) DO UPDATE SET source = excluded.source
        WHERE t.source IS DISTINCT FROM excluded.source
        """,
        [each.key for each in wanted],
        ["" if each.is_fetched else each.source.key for each in wanted],
    )


def known_timeframes(transaction: Transaction) -> tuple[Timeframe, ...]:
    """Return all timeframes that have ever been on, shortest first."""
    found = transaction.query("SELECT timeframe FROM market.timeframe")
    return tuple(sorted(by_key(key) for key in found["timeframe"]))
