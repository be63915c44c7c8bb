"""Corporate actions as facts: what happened to an instrument, when, and who says so. SQL only."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import ACTION_SCHEMA, check_frame
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import ledger
from ema_assets.store.database import Transaction
from ema_assets.store.tables import BARS

# The day of the session in which an action takes effect. Sources give only the day: its time is midnight UTC if no
# session was known when it was recorded, otherwise the open. Sessions open between 21:00 UTC on the day before
# (Wellington, foreign exchange) and 16:00 UTC (Sao Paulo), so five hours later it is always the session's day.
_DAY = "(effective_at AT TIME ZONE 'UTC' + interval '5 hours')::date"
# Each fact with its `day` and the time at which it `takes_effect`. An ex-date begins with the first trade of its
# session, which is before regular hours if the series has extended hours. Any other time is taken literally.
_PLACED = f"""
    SELECT a.symbol, a.kind, a.ratio, a.amount, a.known_at, a.day,
           CASE WHEN a.effective_at IN (a.day::timestamp AT TIME ZONE 'UTC', s.regular_open)
                THEN coalesce(s.open, a.effective_at) ELSE a.effective_at END AS takes_effect
    FROM (SELECT *, {_DAY} AS day FROM market.corporate_action) a
    LEFT JOIN market.instrument i USING (symbol)
    LEFT JOIN market.session s ON s.calendar = i.calendar AND s.session = a.day
    """


def record(transaction: Transaction, actions: pl.DataFrame, source: str) -> int:
    """Record `actions` (ACTION_SCHEMA) as `source` knows them; return how many are new or changed.

    The same action from another source is another row. When a source changes what it says, its latest version counts,
    but a measured ratio of a spin-off is kept if the source has none. An action stays one row even if its session was
    unknown the first time, such as before its symbol was on the watchlist, or is no longer known.
    """
    check_frame(f"corporate actions of {source}", actions, ACTION_SCHEMA)
    if actions.is_empty():
        return 0
    rows = _placed(transaction, actions, source).unique(["symbol", "kind", "effective_at"], keep="last")
    with transaction.given(rows.select(list(ACTION_SCHEMA))) as given:
        return int(
            transaction.query(
                f"""
                WITH changed AS (
                    INSERT INTO market.corporate_action AS a (symbol, kind, effective_at, ratio, amount, value, source)
                    SELECT symbol, kind, effective_at, ratio, amount, value, $1 FROM {given.after(1)}
                    ORDER BY symbol, kind, effective_at
                    ON CONFLICT (symbol, kind, effective_at, source) DO UPDATE
                    SET ratio = coalesce(excluded.ratio, a.ratio), amount = excluded.amount, value = excluded.value,
                        known_at = clock_timestamp()
                    WHERE (a.ratio, a.amount, a.value)
                          IS DISTINCT FROM (coalesce(excluded.ratio, a.ratio), excluded.amount, excluded.value)
                    RETURNING 1
                )
                SELECT count(*) AS n FROM changed
                """,
                source,
                *given.values,
            ).item()
        )


def _placed(transaction: Transaction, actions: pl.DataFrame, source: str) -> pl.DataFrame:
    """Return `actions` at the times already recorded for `source`; recorded midnights move to a time given now."""
    key = ["symbol", "kind", "day"]
    told = transaction.query(
        f"""
        SELECT symbol, kind, {_DAY} AS day, effective_at AS before FROM market.corporate_action
        WHERE source = $1 AND symbol = ANY ($2::text[]) ORDER BY 1, 2, 4
        """,
        source,
        actions["symbol"].unique(),
    )
    if told.is_empty():
        return actions
    is_midnight = pl.col("effective_at").dt.time() == time()
    given = actions.with_columns(day=(pl.col("effective_at") + pl.duration(hours=5)).dt.date())
    at_a_time = given.filter(~is_midnight).unique(key, keep="last")
    moved = told.filter(pl.col("before").dt.time() == time()).join(at_a_time, on=key)
    is_there = told.select(*key, effective_at="before")
    doubled, alone = (moved.join(is_there, on=[*key, "effective_at"], how=how) for how in ("semi", "anti"))
    transaction.execute(
        """
        DELETE FROM market.corporate_action a
        USING unnest($2::text[], $3::text[], $4::timestamptz[]) AS m(symbol, kind, at)
        WHERE a.source = $1 AND (a.symbol, a.kind, a.effective_at) = (m.symbol, m.kind, m.at)
        """,
        source,
        *(doubled[name] for name in ("symbol", "kind", "before")),
    )
    transaction.execute(
        """
        UPDATE market.corporate_action a SET effective_at = m.at
        FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[]) AS m(symbol, kind, before, at)
        WHERE a.source = $1 AND (a.symbol, a.kind, a.effective_at) = (m.symbol, m.kind, m.before)
        """,
        source,
        *(alone[name] for name in ("symbol", "kind", "before", "effective_at")),
    )
    last = pl.concat([is_there, at_a_time.select(is_there.columns)]).group_by(key).agg(pl.col("effective_at").max())
    return (
        given.join(last.rename({"effective_at": "known"}), on=key, how="left")
        .with_columns(
            effective_at=pl.when(is_midnight).then(pl.coalesce("known", "effective_at")).otherwise("effective_at")
        )
        .select(list(ACTION_SCHEMA))
    )


def measure_spin_offs(transaction: Transaction, changes: pl.DataFrame, within: timedelta) -> list[str]:
    """Write the ratio, as measured from bars, of spin-offs that are known without one; return their symbols, sorted.

    `changes` has symbol, ratio and last_ts, the newest bar on the old scale: the spin-off took effect after it, within
    `within`.
    """
    return list(
        transaction.query(
            """
            WITH meant AS (
                -- Sorted, as `record` writes them: two writers that meet rows in different orders would deadlock.
                SELECT a.ctid, c.ratio
                FROM unnest($1::text[], $2::float8[], $3::timestamptz[]) AS c(symbol, ratio, last_ts)
                JOIN market.corporate_action a ON a.symbol = c.symbol AND a.kind = 'spin-off' AND a.ratio IS NULL
                 AND a.effective_at > c.last_ts AND a.effective_at <= c.last_ts + make_interval(secs => $4::float8)
                ORDER BY a.symbol, a.kind, a.effective_at FOR UPDATE OF a
            ), measured AS (
                UPDATE market.corporate_action a SET ratio = m.ratio FROM meant m WHERE a.ctid = m.ctid
                RETURNING a.symbol
            )
            SELECT DISTINCT symbol FROM measured ORDER BY 1
            """,
            changes["symbol"],
            changes["ratio"],
            changes["last_ts"],
            within.total_seconds(),
        )["symbol"]
    )


def withdraw(
    transaction: Transaction, symbols: Sequence[str], actions: pl.DataFrame, source: str, now: datetime
) -> None:
    """Delete actions of `symbols` after `now` that `source` reported before and that are missing from `actions`.

    Announced actions may be postponed or called off. Those that have taken effect stay.
    """
    transaction.execute(
        """
        DELETE FROM market.corporate_action a
        WHERE a.source = $1 AND a.symbol = ANY ($2::text[]) AND a.effective_at > $3
          AND NOT EXISTS (
              SELECT FROM unnest($4::text[], $5::text[], $6::timestamptz[]) AS n(symbol, kind, effective_at)
              WHERE (n.symbol, n.kind, n.effective_at) = (a.symbol, a.kind, a.effective_at))
        """,
        source,
        list(symbols),
        now,
        actions["symbol"],
        actions["kind"],
        actions["effective_at"],
    )


def forget(transaction: Transaction, symbol: str, kind: str, day: date, kept: Sequence[str]) -> list[str]:
    """Delete the action of `symbol` on `day`, except rows from the sources `kept`; return the sources of the others."""
    gone = transaction.query(
        f"""
        DELETE FROM market.corporate_action
        WHERE symbol = $1 AND kind = $2 AND {_DAY} = $3::date AND source <> ALL ($4::text[])
        RETURNING source
        """,
        symbol,
        kind,
        day.isoformat(),
        list(kept),
    )
    return sorted(gone["source"])


def endings(transaction: Transaction, symbols: Sequence[str], now: datetime) -> pl.DataFrame:
    """Return the last action by which each of `symbols` has ended up to `now`, from any source.

    Columns: symbol, kind, effective_at, value. The kind is a rename (`value` is the new symbol), a merger (`value` took
    it over), a redemption, a unit split or a delisting.
    """
    return transaction.query(
        """
        SELECT DISTINCT ON (symbol) symbol, kind, effective_at, value FROM market.corporate_action
        WHERE kind = ANY ($3::text[]) AND effective_at <= $2 AND symbol = ANY ($1::text[])
        ORDER BY symbol, effective_at DESC, kind
        """,
        list(symbols),
        now,
        ["rename", "merger", "redemption", "unit split", "delisting"],
    )


def known(transaction: Transaction, symbols: Sequence[str] | None = None) -> pl.DataFrame:
    """Return the actions of `symbols` (None: all): ACTION_SCHEMA, source, known_at; sorted by symbol, effective_at."""
    return transaction.query(
        """
        SELECT symbol, kind, effective_at, ratio, amount, value, source, known_at FROM market.corporate_action
        WHERE $1 OR symbol = ANY ($2::text[]) ORDER BY symbol, effective_at, kind, source
        """,
        symbols is None,
        list(symbols or ()),
    )


def factors(transaction: Transaction, symbols: Sequence[str]) -> pl.DataFrame:
    """Return the actions that changed the scale of `symbols`: symbol, effective_at, ratio (old price over new), kind.

    One row per action and session, from the source that knew it first; effective_at is the open of the session if that
    is known. Sorted by symbol and effective_at.
    """
    return transaction.query(
        f"""
        SELECT DISTINCT ON (symbol, kind, day) symbol, takes_effect AS effective_at, ratio, kind
        FROM ({_PLACED}) p WHERE ratio IS NOT NULL AND symbol = ANY ($1::text[])
        ORDER BY symbol, kind, day, known_at
        """,
        list(symbols),
    ).sort("symbol", "effective_at")


def applied(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the `factors` that stored bars of `timeframe` are adjusted for: those up to each symbol's newest bar."""
    newest = ledger.newest_bars(transaction, OHLC, timeframe, symbols)
    found = factors(transaction, newest["symbol"].to_list())
    return found.join(newest, on="symbol").filter(pl.col("effective_at") <= pl.col("last_ts")).drop("last_ts")


def dividends(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the dividends of `symbols` (None: all), and the last stored close of `timeframe` before each.

    Columns: symbol, effective_at, amount, known_at, previous_close; sorted by the first two. One row per session, as in
    `factors`. Dividends that have no bar before them or take effect after the newest bar are left out.
    """
    return transaction.query(
        f"""
        WITH known AS (
            SELECT DISTINCT ON (symbol, day) symbol, takes_effect AS effective_at, amount, known_at
            FROM ({_PLACED}) p
            WHERE kind = 'dividend' AND ($1 OR symbol = ANY ($2::text[]))
            ORDER BY symbol, day, known_at
        )
        SELECT k.symbol, k.effective_at, k.amount, k.known_at, b.close AS previous_close
        FROM known k
        JOIN market.series_state s ON s.asset = $4 AND s.symbol = k.symbol AND s.timeframe = $3
             AND s.last_ts >= k.effective_at
        CROSS JOIN LATERAL (
            SELECT close FROM {BARS.part(timeframe)} t
            WHERE t.symbol = k.symbol AND t.timeframe = $3 AND t.ts < k.effective_at ORDER BY t.ts DESC LIMIT 1
        ) b
        ORDER BY 1, 2
        """,
        symbols is None,
        list(symbols or ()),
        timeframe.key,
        OHLC,
    )
