"""What all parts of the ledger share: the beginning of time, pauses after failures, how a mark is dated."""

from datetime import UTC, datetime

# "The beginning of time" for a series to be computed from nothing. Not -infinity, which polars cannot hold.
BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)

FIRST_PAUSE_SECONDS = 30
LONGEST_PAUSE_SECONDS = 3600
# A run tells Dagster within a second or two of its commit; later than this, it died in between.
RECORDING_GRACE_SECONDS = 60

# A symbol of which this many sessions have closed without a bar is silent: it has ended, was renamed or is halted. It
# is asked for only once in a while.
SILENT_SESSIONS = 3
SILENT_PAUSE_HOURS = 20
# One that its provider says has ended is asked for once a week, in case that was wrong. What the provider says is asked
# for each night, so that a symbol that comes back is known the next day.
ENDED_PAUSE_HOURS = 7 * 24 - 4
# One of which there is no bar at all is taken for silent when its provider says that it has ended, or does not list it.
# SQL: the hours between two attempts for the series `s` of the instrument `i`; null for one that trades.
PAUSE_HOURS = f"""CASE
    WHEN i.silent_since IS NULL
         AND (s.last_ts IS NOT NULL OR i.state IS NULL OR i.state IN ('active', 'halted')) THEN NULL
    WHEN i.state IN ('renamed', 'delisted') THEN {ENDED_PAUSE_HOURS}
    ELSE {SILENT_PAUSE_HOURS} END"""
# SQL: as many seconds may pass between two attempts for a symbol that fails.
LONGEST_PAUSE_OF = f"""CASE
    WHEN i.state IN ('renamed', 'delisted', 'unknown') THEN {SILENT_PAUSE_HOURS * 3600}
    ELSE {LONGEST_PAUSE_SECONDS} END::float8"""

# Bars that were asked for so long before their close were asked for by a clock that was wrong. The clocks of the hosts
# of one deployment differ by less.
CLOCK_SLACK_SECONDS = 60

# Of a dirty series, updated_at says since when it has been waiting.
DIRTY_SINCE = "updated_at = CASE WHEN s.dirty_from IS NULL THEN clock_timestamp() ELSE s.updated_at END"
