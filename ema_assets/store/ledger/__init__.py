"""The ledger: one row per series of an asset, which says how fresh it is and from which bar on its input has changed.

Every function takes a Transaction, so that the ledger is written together with the data it speaks of. SQL only.
"""

from ema_assets.store.ledger.overview import (
    assets,
    attempts,
    failing,
    instruments,
    late,
    loading_since,
    newest_checked_through,
    progress,
    summary,
    symbols_active,
    waiting_since,
    warming_up,
    without_bars,
)
from ema_assets.store.ledger.recording import lock_recording, mark_recorded, to_record
from ema_assets.store.ledger.row import (
    BEGINNING,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    RECORDING_GRACE_SECONDS,
)
from ema_assets.store.ledger.staleness import expected_rollups, source_behind, stale
from ema_assets.store.ledger.sync import (
    add_rows,
    adopt_code_versions,
    go_back,
    known_timeframes,
    start_again,
    sync_assets,
    sync_instruments,
    sync_timeframes,
)
from ema_assets.store.ledger.work import (
    claim,
    complete,
    fail,
    fetch_state,
    lock,
    mark_dirty,
    note_delays,
    note_silence,
    pending,
)

__all__ = [
    "BEGINNING",
    "FIRST_PAUSE_SECONDS",
    "LONGEST_PAUSE_SECONDS",
    "RECORDING_GRACE_SECONDS",
    "add_rows",
    "adopt_code_versions",
    "assets",
    "attempts",
    "claim",
    "complete",
    "expected_rollups",
    "fail",
    "failing",
    "fetch_state",
    "go_back",
    "instruments",
    "known_timeframes",
    "late",
    "loading_since",
    "lock",
    "lock_recording",
    "mark_dirty",
    "mark_recorded",
    "newest_checked_through",
    "note_delays",
    "note_silence",
    "pending",
    "progress",
    "source_behind",
    "stale",
    "start_again",
    "summary",
    "symbols_active",
    "sync_assets",
    "sync_instruments",
    "sync_timeframes",
    "to_record",
    "waiting_since",
    "warming_up",
    "without_bars",
]
