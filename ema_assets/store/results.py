"""The schema `results`: views with stable names over what is computed, and who may read them. SQL only.

The views depend on the configured signals and strategies, and are created again when those change.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Any

import polars as pl

from ema_assets.model.asset_names import OHLC, STRATEGY
from ema_assets.model.averages import FAST_SPAN, SLOW_SPAN, asset_of, ema_name, trend_name
from ema_assets.model.errors import StoreError
from ema_assets.model.symbols import BEGIN_ON_SUNDAY
from ema_assets.model.timeframes import Period, Timeframe
from ema_assets.store import lock_waits, planner_settings, roles, view_comments
from ema_assets.store.database import Transaction, identifier

_PERFORMANCE = "market.strategy_performance"
# Each view comes before those that it reads.
VIEWS = (
    *("results.screener", "results.performance", "results.trades", "results.signals", "results.bars"),
    *(_PERFORMANCE, "market.trade"),
)

# Bars per year on timeframes for which that does not depend on an exchange's sessions.
_A_YEAR: Mapping[Period, str] = {"week": "365.25 / 7", "month": "12", "quarter": "4", "year": "1"}

_USUAL = (FAST_SPAN, SLOW_SPAN)

# Ratios of fewer closed trades are meaningless.
FEWEST_TRADES = 10


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration that the views are made from: columns per signal that is on and per strategy; the timeframes.

    `averages` maps the spans of pairs of EMAs other than 9 and 30 that are compared to the first strategy that does so.
    """

    signals: Mapping[str, tuple[str, ...]]
    strategies: Mapping[str, tuple[str, ...]]
    timeframes: tuple[Timeframe, ...]
    averages: Mapping[tuple[int, int], str | None] = field(default_factory=dict)


def ensure(transaction: Transaction, configured: Configured) -> bool:
    """Make the views fit `configured`; return whether they had to be created. Drops views over them: see `own_views`.

    Raises:
        StoreError: when another session uses one of them for too long.
    """
    screeners = [screener_view(spans) for spans in configured.averages]
    statements = [*_statements(configured), *view_comments.statements(screeners)]
    granted = [each for role in roles.EVERY for each in roles.statements(role)]
    signature = hashlib.sha256("\n".join([*statements, *granted]).encode()).hexdigest()
    # Views may be missing: replacing a table drops the views over it.
    state = transaction.query(
        r"""
        SELECT obj_description(to_regclass($2), 'pg_class') AS signature,
               (SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest($1::text[]) AS v(name)) AS is_whole,
               ARRAY (SELECT 'results.' || viewname::text FROM pg_views
                      WHERE schemaname = 'results' AND viewname LIKE 'screener\_%') AS screeners
        """,
        [*VIEWS, *screeners],
        view_comments.SIGNED,
    ).row(0, named=True)
    if (state["signature"], state["is_whole"]) == (signature, True):
        return False
    with lock_waits.limited(transaction):
        for name in (*state["screeners"], *VIEWS):
            kind = "MATERIALIZED VIEW" if name == _PERFORMANCE else "VIEW"
            transaction.execute(f"DROP {kind} IF EXISTS {name} CASCADE")
    signed = f"COMMENT ON VIEW {view_comments.SIGNED} IS '{signature}'"
    for statement in (planner_settings.ADDS_UP_ONCE, *statements, signed, planner_settings.PLANS_AS_USUAL):
        transaction.execute(statement)
    roles.grant(transaction)
    return True


def screener_view(spans: tuple[int, int]) -> str:
    """Return the name, with its schema, of the screener view for the EMAs of these spans."""
    return "results.screener" if spans == _USUAL else f"results.screener_{spans[0]}_{spans[1]}"


def refresh_performance(transaction: Transaction) -> tuple[int, float]:
    """Refresh `strategy_performance`; return its number of rows and the seconds it took. Readers do not wait."""
    # Before the first autovacuum, the planner takes the ledger for empty and would read all bars for each series.
    known = "SELECT count(*) FROM pg_stats WHERE schemaname = 'market' AND tablename = 'series_state'"
    if not transaction.query(known).item():
        transaction.execute("ANALYZE market.series_state")
    transaction.execute(planner_settings.ADDS_UP_ONCE)
    # If the planner sorts all trades at once, it must not do so on disk.
    transaction.execute("SET LOCAL work_mem = '128MB'")
    transaction.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY market.strategy_performance")
    transaction.execute("DELETE FROM market.performance_refresh")
    rows = transaction.query("SELECT count(*) AS n FROM market.strategy_performance").item()
    seconds = transaction.query(
        """
        INSERT INTO market.performance_refresh (refreshed_at, seconds)
        SELECT now(), extract(epoch FROM clock_timestamp() - now()) RETURNING seconds
        """
    ).item()
    return int(rows), float(seconds)


def best_and_worst(transaction: Transaction, rows: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the `rows` series with the highest total return, and the `rows` with the lowest; best and worst first.

    Series with a remark, such as too few trades, are left out. Columns: strategy, symbol, timeframe, trades,
    win_rate_pct, total_return_pct, buy_and_hold_pct, max_drawdown_pct, sharpe.
    """
    best, worst = (
        transaction.query(
            f"""
            SELECT strategy, symbol, timeframe, trades, win_rate_pct, total_return_pct, buy_and_hold_pct,
                   max_drawdown_pct, sharpe
            FROM market.strategy_performance WHERE remark IS NULL AND total_return_pct IS NOT NULL
            ORDER BY total_return_pct {order}, strategy, symbol, timeframe LIMIT $1
            """,
            rows,
        )
        for order in ("DESC", "ASC")
    )
    return best, worst


def performance_age(transaction: Transaction, strategies: Sequence[str]) -> Mapping[str, Any]:
    """Return when performance was last refreshed, how long that took, and when one of `strategies` was last computed.

    Keys: refreshed_at, seconds, computed_at, seconds_ago (since the refresh); each None if there was none.
    """
    return transaction.query(
        """
        SELECT r.refreshed_at, r.seconds, c.computed_at,
               extract(epoch FROM clock_timestamp() - r.refreshed_at)::float8 AS seconds_ago
        FROM (SELECT max(computed_at) AS computed_at FROM market.series_state WHERE asset = ANY ($1::text[])) c
        LEFT JOIN market.performance_refresh r ON true
        """,
        list(strategies),
    ).row(0, named=True)


def series_without_performance(transaction: Transaction, strategies: Sequence[str], since: datetime) -> int:
    """Return how many series of `strategies`, computed since `since` (UTC), lack their row in performance."""
    count = transaction.query(
        """
        SELECT count(*) AS n FROM market.series_state s JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        WHERE s.asset = ANY ($1::text[]) AND s.is_on AND s.computed_at >= $2 AND s.last_ts IS NOT NULL
          AND NOT EXISTS (SELECT FROM market.strategy_performance p
                          WHERE p.strategy = s.asset AND p.symbol = s.symbol AND p.timeframe = s.timeframe)
        """,
        list(strategies),
        since,
    )
    return int(count.item())


def select(
    transaction: Transaction,
    view: str,
    timeframe: str | None,
    symbols: Sequence[str] | None,
    strategy: str | None = None,
) -> pl.DataFrame:
    """Return rows of a view of `results` on `timeframe`, of `symbols` and `strategy` (None: all); unsorted.

    Raises:
        StoreError: when the views have not been created yet.
    """
    if transaction.query("SELECT to_regclass($1) IS NULL AS gone", f"results.{identifier(view)}").item():
        raise StoreError("nothing has been computed in this database yet; start with `ema-assets up`")
    by_strategy = "AND ($4::text IS NULL OR strategy = $4)" if strategy is not None else ""
    return transaction.query(
        f"""
        SELECT * FROM results.{identifier(view)}
        WHERE ($1::text IS NULL OR timeframe = $1) AND ($2 OR symbol = ANY ($3::text[])) {by_strategy}
        """,
        timeframe,
        symbols is None,
        list(symbols or ()),
        *([strategy] if strategy is not None else []),
    )


def open_trades(transaction: Transaction, strategy: str, timeframe: str, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the open trades of `strategy`, one per symbol: symbol, and the screener's columns of a trade."""
    return transaction.query(
        """
        SELECT DISTINCT ON (symbol) symbol, side AS trade_side, entry_ts AS trade_since, entry_price AS trade_price,
               return_pct AS trade_return_pct, stop_now AS stop_price
        FROM results.trades
        WHERE strategy = $1 AND timeframe = $2 AND status = 'open' AND ($3 OR symbol = ANY ($4::text[]))
        ORDER BY symbol, entry_ts DESC
        """,
        strategy,
        timeframe,
        symbols is None,
        list(symbols or ()),
    )


def _statements(configured: Configured) -> list[str]:
    """Return the statements that create the views, in order."""
    return [
        _bars(configured),
        _signals(configured),
        _trades(configured.strategies),
        _shown_trades(configured),
        _template("performance").format(
            fewest=FEWEST_TRADES, calendar_year=_calendar_year(configured.timeframes).strip()
        ),
        "CREATE UNIQUE INDEX ON market.strategy_performance (strategy, symbol, timeframe)",
        "CREATE VIEW results.performance AS SELECT * FROM market.strategy_performance",
        _screener(configured, _USUAL, STRATEGY),
        *(_screener(configured, spans, strategy) for spans, strategy in configured.averages.items()),
    ]


def _calendar_year(timeframes: Iterable[Timeframe]) -> str:
    """Return the query of the number of bars per year: calendar, timeframe, bars."""
    rows = (
        f"('{each.key}', {each.minutes}, {_A_YEAR[each.period] if each.period else 'NULL'}::float8)"
        for each in timeframes
    )
    return _template("calendar_year").format(timeframes=", ".join(rows))


def bars_per_year(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the number of `timeframe` bars per year of each of `symbols` (None: all): symbol, bars_per_year.

    It follows from the stored sessions of the symbol's calendar; null where none are stored.
    """
    return transaction.query(
        f"""
        SELECT i.symbol, y.bars AS bars_per_year
        FROM market.instrument i LEFT JOIN ({_calendar_year([timeframe])}) y USING (calendar)
        WHERE $1 OR i.symbol = ANY ($2::text[])
        """,
        symbols is None,
        list(symbols or ()),
    )


def _frame(timeframes: Iterable[Timeframe]) -> str:
    """Return SQL for the table `f`: the properties of `timeframes` that determine when their bars close."""
    rows = ", ".join(
        f"('{each.key}', interval '{each.minutes} minutes', '{each.base.key}', {each.is_session}, "
        f"nullif('{each.period or ''}', ''))"
        for each in timeframes
    )
    return f"(VALUES {rows}) AS f(timeframe, length, source, is_session, period)"


def _finality(rows: str, timeframes: Iterable[Timeframe]) -> str:
    """Return joins that give `rows` what `_preliminary` reads. They cost little if nobody selects its value."""
    return (
        f"LEFT JOIN {_frame(timeframes)} ON f.timeframe = {rows}.timeframe "
        f"LEFT JOIN market.instrument i ON i.symbol = {rows}.symbol "
        f"LEFT JOIN market.series_state base ON base.asset = '{OHLC}' AND base.symbol = {rows}.symbol "
        "AND base.timeframe = f.source"
    )


def _preliminary(ts: str) -> str:
    """Return SQL for whether the bar opening at `ts` may still change, from `f`, the instrument `i` and `base` bars."""
    return _template("preliminary").format(
        ts=ts, begin_on_sunday=", ".join(f"'{calendar}'" for calendar in BEGIN_ON_SUNDAY)
    )


def preliminary_since(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str] | None) -> pl.DataFrame:
    """Return the first `timeframe` bar of each of `symbols` (None: all) that may still change: symbol, since.

    All later bars may change, too. Symbols without such a bar are left out.
    """
    return transaction.query(
        f"""
        SELECT i.symbol, first.ts AS since
        FROM market.instrument i
        CROSS JOIN {_frame([timeframe])}
        LEFT JOIN market.series_state base
               ON base.asset = $2 AND base.symbol = i.symbol AND base.timeframe = f.source
        CROSS JOIN LATERAL (
            SELECT o.ts FROM market.{OHLC} o
            WHERE o.symbol = i.symbol AND o.timeframe = $1
              AND o.ts > coalesce(base.final_through - f.length, '-infinity') AND {_preliminary("o.ts")}
            ORDER BY o.ts LIMIT 1
        ) first
        WHERE $3::text[] IS NULL OR i.symbol = ANY ($3::text[])
        """,
        timeframe.key,
        OHLC,
        None if symbols is None else list(symbols),
    )


def _bars(configured: Configured) -> str:
    columns = ", ".join(f"o.{name}" for name in ("symbol", "timeframe", "ts", "open", "high", "low", "close", "volume"))
    return (
        f"CREATE VIEW results.bars AS SELECT {columns}, {_preliminary('o.ts')} AS is_preliminary "
        f"FROM market.{OHLC} o {_finality('o', configured.timeframes)}"
    )


def _shown_trades(configured: Configured) -> str:
    return (
        f"CREATE VIEW results.trades AS SELECT t.*, {_preliminary('t.last_ts')} AS is_preliminary "
        f"FROM market.trade t {_finality('t', configured.timeframes)}"
    )


def _signals(configured: Configured) -> str:
    """Return the view of bars with all signals. Of columns with one name, as for trends of other spans, the first."""
    columns: dict[str, str] = {}
    joins = ""
    for number, (name, names) in enumerate(configured.signals.items()):
        # An alias, because a signal may have the name of another table in the view, such as `f`.
        joins += f" LEFT JOIN market.{identifier(name)} s{number} USING (symbol, timeframe, ts)"
        for column in names:
            columns.setdefault(column, f"s{number}.{identifier(column)}")
    shown = "".join(f", {column}" for column in columns.values())
    return (
        f"CREATE VIEW results.signals AS SELECT o.symbol, o.timeframe, o.ts, o.close{shown}, "
        f"{_preliminary('o.ts')} AS is_preliminary FROM market.{OHLC} o{joins} "
        f"{_finality('o', configured.timeframes)}"
    )


def _trades(strategies: Mapping[str, tuple[str, ...]]) -> str:
    parts = [
        f"SELECT '{identifier(name)}'::text AS strategy, symbol, timeframe, {', '.join(map(identifier, columns))} "
        f"FROM market.{identifier(name)}"
        for name, columns in strategies.items()
    ]
    # The view exists, empty, even if every strategy is switched off.
    parts = parts or [f"SELECT ''::text AS strategy, t.* FROM market.{STRATEGY} t WHERE false"]
    return f"CREATE VIEW market.trade AS {' UNION ALL '.join(parts)}"


def _screener(configured: Configured, spans: tuple[int, int], strategy: str | None) -> str:
    """Return the screener view for the EMAs of `spans`, with the open trades of `strategy`."""
    fast, slow = map(ema_name, spans)
    is_one = asset_of(fast) == asset_of(slow)
    frames = ", ".join(
        f"max(trend) FILTER (WHERE timeframe = '{each.key}') OVER own AS trend_{each.sql_name}"
        for each in configured.timeframes
    )
    open_trade = (
        f"""LEFT JOIN LATERAL (
            SELECT side, entry_ts, entry_price, return_pct, stop_now FROM market.{identifier(strategy)} o
            WHERE o.symbol = l.symbol AND o.timeframe = l.timeframe AND o.status = 'open'
            ORDER BY entry_ts DESC LIMIT 1
        ) o ON true"""
        if strategy is not None and strategy in configured.strategies
        else "LEFT JOIN (SELECT ''::text AS side, now() AS entry_ts, 0::float8 AS entry_price, 0::float8 AS return_pct,"
        " 0::float8 AS stop_now) o ON false"
    )
    return _template("screener").format(
        view=screener_view(spans),
        trend=identifier(asset_of(trend_name(*spans))),
        fast=fast,
        slow=slow,
        fast_more=spans[0] + 1,
        slow_more=spans[1] + 1,
        # Both may be columns of one table.
        fast_from="s" if is_one else "f",
        bar=_at_bar(OHLC, "close"),
        slow_row=_at_bar(asset_of(slow), *([fast] if is_one else []), slow, "warming_up"),
        join_fast="" if is_one else f"CROSS JOIN LATERAL {_at_bar(asset_of(fast), fast)} f",
        frame=_frame(configured.timeframes),
        is_preliminary=_preliminary("s.last_ts"),
        frames=frames,
        rsi=_latest("rsi", "rsi", configured.signals),
        atr=_latest("atr", "atr_pct", configured.signals),
        open_trade=open_trade,
        trends=", ".join(f"l.trend_{each.sql_name}" for each in configured.timeframes),
    )


def _at_bar(asset: str, *columns: str) -> str:
    """Return a query that looks up columns of `asset` at the bar of the row."""
    return (
        f"(SELECT {', '.join(map(identifier, columns))} FROM market.{identifier(asset)} x "
        "WHERE x.symbol = l.symbol AND x.timeframe = l.timeframe AND x.ts = l.ts LIMIT 1)"
    )


def _latest(name: str, column: str, signals: Mapping[str, tuple[str, ...]]) -> str:
    """Return SQL for a column of another signal at the bar of the row, null when that signal is switched off."""
    return _at_bar(name, column) if column in signals.get(name, ()) else "NULL::float8"


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("views", f"{name}.sql").read_text(encoding="utf-8")
