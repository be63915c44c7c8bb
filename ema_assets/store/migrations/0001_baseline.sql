-- Everything but the tables of bars, signals, trades and states: those are made from their declarations (store/tables).

CREATE SCHEMA market;

-- The watchlist and its calendars.

CREATE TABLE market.instrument (
    symbol     text COLLATE "C" PRIMARY KEY,
    calendar   text COLLATE "C" NOT NULL,
    is_active  boolean NOT NULL DEFAULT true,
    is_fetched boolean NOT NULL DEFAULT true,
    provider   text COLLATE "C",
    added_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE market.instrument IS 'The watchlist as last synced. A symbol taken off the watchlist stays, not active.';
COMMENT ON COLUMN market.instrument.is_fetched IS 'False when bars come only from ingested files.';
COMMENT ON COLUMN market.instrument.provider IS 'Null for the one of EMA_PROVIDER.';

CREATE TABLE market.session (
    calendar      text COLLATE "C" NOT NULL,
    session       date NOT NULL,
    open          timestamptz NOT NULL,
    break_start   timestamptz,
    break_end     timestamptz,
    close         timestamptz NOT NULL,
    regular_open  timestamptz NOT NULL,
    regular_close timestamptz NOT NULL,
    PRIMARY KEY (calendar, session)
);
COMMENT ON TABLE market.session IS 'Trading sessions, copied from exchange_calendars so that a run need not import it.';
COMMENT ON COLUMN market.session.regular_open IS 'A session of extended hours is longer than the exchange''s own; a 1d bar spans the exchange''s own.';

-- The ledger: how fresh each series of each asset is.

CREATE TABLE market.series_state (
    asset           text COLLATE "C" NOT NULL,
    symbol          text COLLATE "C" NOT NULL REFERENCES market.instrument (symbol),
    timeframe       text COLLATE "C" NOT NULL,
    code_version    text COLLATE "C",
    revision        bigint NOT NULL DEFAULT 0,
    dirty_from      timestamptz,
    dirty_end       timestamptz,
    first_ts        timestamptz,
    last_ts         timestamptz,
    checked_through timestamptz,
    failures        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error      text,
    computed_at     timestamptz,
    recorded_at     timestamptz,
    inputs               jsonb,
    recorded_revision    bigint,
    recorded_event       bigint,
    recorded_first_event bigint,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (asset, symbol, timeframe)
) WITH (fillfactor = 70);
COMMENT ON TABLE market.series_state IS 'The ledger: one row per partition of an asset, written in the transaction of its data.';
COMMENT ON COLUMN market.series_state.dirty_from IS 'The earliest ts whose input changed since this series was computed; null when nothing did.';
COMMENT ON COLUMN market.series_state.dirty_end IS 'Rolled-up ohlc only: closing time of the bucket at dirty_from.';
COMMENT ON COLUMN market.series_state.checked_through IS 'ohlc only: bars that closed up to here have been asked for.';
COMMENT ON COLUMN market.series_state.computed_at IS 'When the series was last brought up to date; later than recorded_at while Dagster has not been told.';

COMMENT ON COLUMN market.series_state.inputs IS 'The revisions it was computed from, such as {"ohlc|5m": 12}: asset and timeframe of each input.';
COMMENT ON COLUMN market.series_state.recorded_revision IS 'The revision that Dagster was told of last; null when it was never told.';
COMMENT ON COLUMN market.series_state.recorded_event IS 'Id of the newest materialization of recorded_revision in Dagster''s event log.';
COMMENT ON COLUMN market.series_state.recorded_first_event IS 'Id of the first one: every event before it has an older revision.';

CREATE INDEX series_state_dirty ON market.series_state (asset, timeframe) WHERE dirty_from IS NOT NULL;
CREATE INDEX series_state_checked ON market.series_state (timeframe, checked_through) WHERE asset = 'ohlc';
CREATE INDEX series_state_unrecorded ON market.series_state (computed_at)
    WHERE recorded_at IS NULL OR recorded_at < computed_at;
CREATE INDEX series_state_failing ON market.series_state (asset) WHERE failures > 0;

CREATE TABLE market.bar_correction (
    symbol       text COLLATE "C" NOT NULL,
    timeframe    text COLLATE "C" NOT NULL,
    ts           timestamptz NOT NULL,
    open         float8 NOT NULL,
    high         float8 NOT NULL,
    low          float8 NOT NULL,
    close        float8 NOT NULL,
    volume       float8 NOT NULL,
    corrected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, timeframe, ts, corrected_at)
);
COMMENT ON TABLE market.bar_correction IS 'The values a bar had before corrected_at, when its provider changed it.';

CREATE TABLE market.bar_rejected (
    symbol      text COLLATE "C" NOT NULL,
    timeframe   text COLLATE "C" NOT NULL,
    ts          timestamptz,
    open        float8,
    high        float8,
    low         float8,
    close       float8,
    volume      float8,
    reason      text NOT NULL,
    source      text NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE market.bar_rejected IS 'Bars that cannot be bars, as the source sent them, and why.';
CREATE INDEX bar_rejected_series ON market.bar_rejected (symbol, timeframe, ts);
CREATE INDEX bar_rejected_age ON market.bar_rejected (rejected_at);

-- The quality of bars: gaps, flags, what was skipped, and what the vendor changed afterwards.

CREATE TABLE market.bar_gap (
    symbol          text COLLATE "C" NOT NULL,
    timeframe       text COLLATE "C" NOT NULL,
    first_ts        timestamptz NOT NULL,
    last_ts         timestamptz NOT NULL,
    bars            integer NOT NULL CHECK (bars > 0),
    status          text COLLATE "C" NOT NULL CHECK (status IN ('open', 'did not trade', 'not in file')),
    asked           integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    found_at        timestamptz NOT NULL,
    PRIMARY KEY (symbol, timeframe, first_ts),
    CHECK ((status = 'open') = (next_attempt_at IS NOT NULL))
);
COMMENT ON TABLE market.bar_gap IS 'Runs of bars that should exist by the calendar and do not: from first_ts to last_ts, both missing.';
COMMENT ON COLUMN market.bar_gap.asked IS 'How often the provider was asked again for just this gap.';
CREATE INDEX bar_gap_due ON market.bar_gap (timeframe, next_attempt_at) WHERE status = 'open';

CREATE TABLE market.bar_flag (
    symbol     text COLLATE "C" NOT NULL,
    timeframe  text COLLATE "C" NOT NULL,
    ts         timestamptz NOT NULL,
    reason     text NOT NULL,
    detail     text NOT NULL,
    flagged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (symbol, timeframe, ts, reason)
);
COMMENT ON TABLE market.bar_flag IS 'Stored bars that look suspicious, and why.';
CREATE INDEX bar_flag_age ON market.bar_flag (flagged_at);

CREATE TABLE market.bar_skipped (
    symbol       text COLLATE "C" NOT NULL,
    timeframe    text COLLATE "C" NOT NULL,
    reason       text COLLATE "C" NOT NULL,
    source       text COLLATE "C" NOT NULL,
    bars         bigint NOT NULL,
    last_ts      timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (symbol, timeframe, reason, source)
);
COMMENT ON TABLE market.bar_skipped IS 'Sound bars that are not bars of a session. A bar counts each time the source sends it.';

CREATE TABLE market.bar_revision (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol             text COLLATE "C" NOT NULL,
    timeframe          text COLLATE "C" NOT NULL,
    kind               text COLLATE "C" NOT NULL CHECK (kind IN ('correction', 'late bars', 'split')),
    detail             text NOT NULL,
    changed_from       timestamptz NOT NULL,
    bars_corrected     integer NOT NULL,
    bars_late          integer NOT NULL,
    source             text COLLATE "C" NOT NULL,
    revised_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    rows_recomputed    bigint NOT NULL DEFAULT 0,
    crossovers_flipped bigint NOT NULL DEFAULT 0,
    trades_flipped     bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE market.bar_revision IS 'Each time the past of a fetched series changed, and how far that reached: its blast radius.';
COMMENT ON COLUMN market.bar_revision.rows_recomputed IS 'Existing rows that were computed again, over all assets and the timeframes rolled up from this one.';
CREATE INDEX bar_revision_series ON market.bar_revision (symbol, timeframe, id);
CREATE INDEX bar_revision_age ON market.bar_revision (revised_at);

-- A type and not RETURNS TABLE, whose columns cannot have the tables' collation: without it no index is used.
CREATE TYPE market.bar AS (
    symbol    text COLLATE "C",
    timeframe text COLLATE "C",
    ts        timestamptz,
    open      float8,
    high      float8,
    low       float8,
    close     float8,
    volume    float8
);

-- The table of bars is made after this file.
SET LOCAL check_function_bodies = off;

CREATE FUNCTION market.ohlc_as_of(moment timestamptz) RETURNS SETOF market.bar
LANGUAGE sql STABLE
AS $$
    SELECT o.symbol, o.timeframe, o.ts,
           coalesce(c.open, o.open), coalesce(c.high, o.high), coalesce(c.low, o.low),
           coalesce(c.close, o.close), coalesce(c.volume, o.volume)
    FROM market.ohlc o
    LEFT JOIN LATERAL (
        SELECT k.open, k.high, k.low, k.close, k.volume FROM market.bar_correction k
        WHERE k.symbol = o.symbol AND k.timeframe = o.timeframe AND k.ts = o.ts AND k.corrected_at > moment
        ORDER BY k.corrected_at LIMIT 1
    ) c ON true
    WHERE o.stored_at <= moment
$$;
COMMENT ON FUNCTION market.ohlc_as_of IS 'Bars as they stood at a moment: later bars left out, later corrections undone.';

-- Providers: how many calls they may still be sent, and whether they answer at present.

CREATE TABLE market.provider_state (
    provider     text COLLATE "C" PRIMARY KEY,
    failures     integer NOT NULL DEFAULT 0,
    open_until   timestamptz,
    last_error   text,
    closed_until timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE market.provider_state IS 'The circuit breaker of each provider, shared by all runs.';
COMMENT ON COLUMN market.provider_state.open_until IS 'Until then the provider is not asked at all: it could not be reached or has shut us out.';
COMMENT ON COLUMN market.provider_state.closed_until IS 'Until then no call leaves, because the provider asked for it.';

-- Lost in a crash of the server, which only forgets the last minute's calls.
CREATE UNLOGGED TABLE market.provider_call (
    provider text COLLATE "C" NOT NULL,
    sent_at  timestamptz NOT NULL
);
CREATE INDEX provider_call_sent ON market.provider_call (provider, sent_at);
COMMENT ON TABLE market.provider_call IS 'Calls that left in the last minute, of all runs together.';

CREATE FUNCTION market.take_call(the_provider text, most integer, window_seconds float8) RETURNS float8
LANGUAGE plpgsql
AS $$
DECLARE
    the_window interval := make_interval(secs => window_seconds);
    moment     timestamptz;
    sent       bigint;
    oldest     timestamptz;
    closed     timestamptz;
BEGIN
    -- One caller at a time for each provider; the lock goes with the transaction.
    PERFORM pg_advisory_xact_lock(hashtextextended('ema_assets provider_call ' || the_provider, 0));
    moment := clock_timestamp();
    SELECT s.closed_until INTO closed FROM market.provider_state s WHERE s.provider = the_provider;
    IF closed > moment THEN
        RETURN extract(epoch FROM closed - moment);
    END IF;
    DELETE FROM market.provider_call c WHERE c.provider = the_provider AND c.sent_at <= moment - the_window;
    SELECT count(*) INTO sent FROM market.provider_call c WHERE c.provider = the_provider;
    IF sent >= most THEN
        SELECT c.sent_at INTO oldest FROM market.provider_call c
        WHERE c.provider = the_provider ORDER BY c.sent_at OFFSET sent - most LIMIT 1;
        RETURN greatest(extract(epoch FROM oldest + the_window - moment), 0.001);
    END IF;
    INSERT INTO market.provider_call (provider, sent_at) VALUES (the_provider, moment);
    RETURN 0;
END $$;
COMMENT ON FUNCTION market.take_call IS 'Take one of the calls that a provider allows in a window: 0 when it may leave, else seconds to wait.';

-- From a bar's close to its strategy row: what a trader waits for.

CREATE TABLE market.close_latency (
    timeframe    text COLLATE "C" NOT NULL,
    closed_at    timestamptz NOT NULL,
    series       bigint NOT NULL,
    seconds      float8 NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE market.close_latency IS 'Seconds from the close of a bar to the commit of the strategy rows it led to, of so many series at once.';
CREATE INDEX close_latency_age ON market.close_latency (committed_at);

-- The graph of assets: which there are, which of them are switched on, and what each one reads. Written by the sync of
-- the configuration; the ledger follows it to say what becomes dirty.

CREATE TABLE market.asset (
    asset    text COLLATE "C" PRIMARY KEY,
    position integer NOT NULL,
    is_on    boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE market.asset IS 'Every asset that was ever computed here. One that is switched off keeps its rows and its marks in the ledger.';
COMMENT ON COLUMN market.asset.position IS 'An asset comes after everything that it reads.';

CREATE TABLE market.asset_input (
    asset           text COLLATE "C" NOT NULL REFERENCES market.asset (asset),
    timeframe       text COLLATE "C" NOT NULL,
    reads           text COLLATE "C" NOT NULL,
    reads_timeframe text COLLATE "C" NOT NULL,
    is_main         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (asset, timeframe, reads, reads_timeframe)
);
COMMENT ON TABLE market.asset_input IS 'A change of a series of `reads` makes that of `asset` dirty. How bars are rolled up from bars is not in it.';
COMMENT ON COLUMN market.asset_input.is_main IS 'The input that has a row for every row or so of the asset.';
CREATE INDEX asset_input_reads ON market.asset_input (reads, reads_timeframe);

-- What people read: views with stable names, and a role that may read and nothing else.

CREATE SCHEMA results;
COMMENT ON SCHEMA results IS 'What ema-assets has computed, in views whose names and columns stay. Made by the sync of the configuration.';

CREATE TABLE market.performance_refresh (
    refreshed_at timestamptz NOT NULL,
    seconds      float8 NOT NULL
);
COMMENT ON TABLE market.performance_refresh IS 'When strategy_performance was last brought up to date, and how long that took: one row at most.';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ema_reader') THEN
        CREATE ROLE ema_reader NOLOGIN;
    END IF;
EXCEPTION
    -- On a server where we may not make roles, or where another database of it is migrated at the same moment.
    WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
        RAISE NOTICE 'the role ema_reader was not made';
END $$;
