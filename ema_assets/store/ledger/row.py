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

# Of a dirty series, updated_at says since when it has been waiting.
DIRTY_SINCE = "updated_at = CASE WHEN s.dirty_from IS NULL THEN clock_timestamp() ELSE s.updated_at END"
