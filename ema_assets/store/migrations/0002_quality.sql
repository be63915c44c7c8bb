-- What is known about the quality of bars: gaps, flags, what was put aside, and what the vendor changed afterwards.

-- A session of extended hours is longer than the exchange's own; a 1d bar always spans the exchange's own.
ALTER TABLE market.session ADD COLUMN regular_open timestamptz, ADD COLUMN regular_close timestamptz;
UPDATE market.session SET regular_open = open, regular_close = close;
ALTER TABLE market.session ALTER COLUMN regular_open SET NOT NULL, ALTER COLUMN regular_close SET NOT NULL;

-- Bars stored by an earlier release count as known from the start.
ALTER TABLE market.ohlc
    ADD COLUMN missing_bars smallint,
    ADD COLUMN stored_at timestamptz NOT NULL DEFAULT '1900-01-01 00:00+00';
ALTER TABLE market.ohlc ALTER COLUMN stored_at SET DEFAULT statement_timestamp();
COMMENT ON COLUMN market.ohlc.missing_bars IS 'Rolled-up bars only: how many 5m bars of the bucket did not trade or did not come.';
COMMENT ON COLUMN market.ohlc.stored_at IS 'When the bar was first stored; corrections do not change it.';

DO $$
DECLARE
    frame text;
BEGIN
    -- A partition has its own default, copied when the partition was made.
    FOREACH frame IN ARRAY ARRAY['5m', '15m', '30m', '1h', '4h', '1d'] LOOP
        EXECUTE format('ALTER TABLE market.%I ALTER COLUMN stored_at SET DEFAULT statement_timestamp()', 'ohlc_' || frame);
    END LOOP;
END $$;

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

CREATE TABLE market.bar_put_aside (
    symbol       text COLLATE "C" NOT NULL,
    timeframe    text COLLATE "C" NOT NULL,
    reason       text COLLATE "C" NOT NULL,
    source       text COLLATE "C" NOT NULL,
    bars         bigint NOT NULL,
    last_ts      timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (symbol, timeframe, reason, source)
);
COMMENT ON TABLE market.bar_put_aside IS 'Sound bars that are not bars of a session. A bar counts each time the source sends it.';

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
