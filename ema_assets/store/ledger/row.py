"""Constants and SQL shared by the modules of the ledger: the beginning of time, pauses, the date of a dirty mark."""

from datetime import UTC, datetime

from ema_assets.model.timeframes import FETCHED

# "The beginning of time" for a series to be computed from nothing. Not -infinity, which polars cannot hold.
BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)

FIRST_PAUSE_SECONDS = 30
LONGEST_PAUSE_SECONDS = 3600
# A run reports to Dagster within a second or two of its commit; if it has not by now, it died in between.
RECORDING_GRACE_SECONDS = 60

# A symbol is silent when this many sessions have closed without a bar: it has ended, was renamed or is halted. It is
# requested only once in a while.
SILENT_SESSIONS = 3
SILENT_PAUSE_HOURS = 20
# A symbol that has ended according to its provider is requested once a week, in case that was wrong. The provider's
# description is requested each night, so a symbol that comes back is known the next day.
ENDED_PAUSE_HOURS = 7 * 24 - 4
# A symbol without any bar counts as silent when its provider says that it has ended, or does not list it.
# SQL: the hours between two attempts for the series `s` of the instrument `i`; null for one that trades.
PAUSE_HOURS = f"""CASE
    WHEN i.silent_since IS NULL
         AND (s.last_ts IS NOT NULL OR i.state IS NULL OR i.state IN ('active', 'halted')) THEN NULL
    WHEN i.state IN ('renamed', 'delisted') THEN {ENDED_PAUSE_HOURS}
    ELSE {SILENT_PAUSE_HOURS} END"""
# SQL: the longest pause, in seconds, between two attempts for a failing symbol.
LONGEST_PAUSE_OF = f"""CASE
    WHEN i.state IN ('renamed', 'delisted', 'unknown') THEN {SILENT_PAUSE_HOURS * 3600}
    ELSE {LONGEST_PAUSE_SECONDS} END::float8"""

# A clock was wrong if bars were requested this long before their close. The clocks of the hosts of one deployment
# differ by less.
CLOCK_SLACK_SECONDS = 60

# The updated_at of a dirty series says since when it has been waiting.
DIRTY_SINCE = "updated_at = CASE WHEN s.dirty_from IS NULL THEN clock_timestamp() ELSE s.updated_at END"

# SQL: locks series `s` of the assets `a` in the order in which runs lock them: fetched bars, bars that are rolled up
# from them, and every other asset before its readers. In another order, a run and a writer would wait for each other.
_FETCHED_KEYS = ", ".join(f"'{each.key}'" for each in FETCHED)
IN_ORDER = f"""ORDER BY a.position, s.timeframe NOT IN ({_FETCHED_KEYS}), s.timeframe, s.symbol
            FOR NO KEY UPDATE OF s"""
