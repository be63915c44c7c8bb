-- The market schema: bars, what is computed from them, and the ledger that says how fresh each series is.
-- Tables of bars are list-partitioned by timeframe: a run works on one timeframe and never touches the others' pages.

CREATE SCHEMA market;

CREATE TABLE market.instrument (
    symbol     text COLLATE "C" PRIMARY KEY,
    calendar   text COLLATE "C" NOT NULL,
    is_active  boolean NOT NULL DEFAULT true,
    is_fetched boolean NOT NULL DEFAULT true,
    added_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE market.instrument IS 'The watchlist as last synced. A symbol taken off the watchlist stays, not active.';
COMMENT ON COLUMN market.instrument.is_fetched IS 'False when bars come only from ingested files.';

CREATE TABLE market.session (
    calendar    text COLLATE "C" NOT NULL,
    session     date NOT NULL,
    open        timestamptz NOT NULL,
    break_start timestamptz,
    break_end   timestamptz,
    close       timestamptz NOT NULL,
    PRIMARY KEY (calendar, session)
);
COMMENT ON TABLE market.session IS 'Trading sessions, copied from exchange_calendars so that a run need not import it.';

CREATE TABLE market.ohlc (
    symbol    text COLLATE "C" NOT NULL,
    timeframe text COLLATE "C" NOT NULL,
    ts        timestamptz NOT NULL,
    open      float8 NOT NULL,
    high      float8 NOT NULL,
    low       float8 NOT NULL,
    close     float8 NOT NULL,
    volume    float8 NOT NULL,
    PRIMARY KEY (symbol, timeframe, ts),
    CHECK (low > 0 AND low <= open AND low <= close AND high >= open AND high >= close AND volume >= 0)
) PARTITION BY LIST (timeframe);
COMMENT ON TABLE market.ohlc IS 'Closed bars. ts is the opening time, UTC; a 1d bar carries its session''s open.';

CREATE TABLE market.ema_signals (
    symbol     text COLLATE "C" NOT NULL,
    timeframe  text COLLATE "C" NOT NULL,
    ts         timestamptz NOT NULL,
    ema_9      float8,
    ema_30     float8,
    bar_number bigint NOT NULL,
    warming_up boolean NOT NULL GENERATED ALWAYS AS (bar_number < 208) STORED,
    PRIMARY KEY (symbol, timeframe, ts)
) PARTITION BY LIST (timeframe);
COMMENT ON COLUMN market.ema_signals.warming_up IS 'The seed of ema_30 still weighs more than 1e-6.';

CREATE TABLE market.ema_trend (
    symbol           text COLLATE "C" NOT NULL,
    timeframe        text COLLATE "C" NOT NULL,
    ts               timestamptz NOT NULL,
    trend            text COLLATE "C" CHECK (trend IN ('up', 'down')),
    crossover        text COLLATE "C" CHECK (crossover IN ('bullish', 'bearish')),
    spread_pct       float8,
    bars_since_cross bigint,
    bar_number       bigint NOT NULL,
    PRIMARY KEY (symbol, timeframe, ts)
) PARTITION BY LIST (timeframe);

CREATE TABLE market.strategy_9_30_ema (
    symbol      text COLLATE "C" NOT NULL,
    timeframe   text COLLATE "C" NOT NULL,
    entry_ts    timestamptz NOT NULL,
    entry_price float8 NOT NULL,
    exit_ts     timestamptz,
    exit_price  float8,
    last_ts     timestamptz NOT NULL,
    last_price  float8 NOT NULL,
    return_pct  float8 NOT NULL,
    bars_held   bigint NOT NULL,
    status      text COLLATE "C" NOT NULL CHECK (status IN ('open', 'closed')),
    PRIMARY KEY (symbol, timeframe, entry_ts)
) PARTITION BY LIST (timeframe);
COMMENT ON TABLE market.strategy_9_30_ema IS 'One row a trade; the open trade has no exit and is marked to the last close.';

DO $$
DECLARE
    parent text;
    frame  text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['ohlc', 'ema_signals', 'ema_trend', 'strategy_9_30_ema'] LOOP
        FOREACH frame IN ARRAY ARRAY['5m', '15m', '30m', '1h', '4h', '1d'] LOOP
            EXECUTE format('CREATE TABLE market.%I PARTITION OF market.%I FOR VALUES IN (%L)',
                           parent || '_' || frame, parent, frame);
        END LOOP;
    END LOOP;
END $$;

-- "Which symbols crossed lately" is the question a trader asks of all series at once.
CREATE INDEX ema_trend_crossover ON market.ema_trend (ts) WHERE crossover IS NOT NULL;
CREATE INDEX strategy_9_30_ema_open ON market.strategy_9_30_ema (symbol) WHERE status = 'open';

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
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (asset, symbol, timeframe)
) WITH (fillfactor = 70);
COMMENT ON TABLE market.series_state IS 'The ledger: one row a partition of an asset, written in the transaction of its data.';
COMMENT ON COLUMN market.series_state.dirty_from IS 'The earliest ts whose input changed since this series was computed; null when nothing did.';
COMMENT ON COLUMN market.series_state.dirty_end IS 'Rolled-up ohlc only: closing time of the bucket at dirty_from.';
COMMENT ON COLUMN market.series_state.checked_through IS 'ohlc only: bars that closed up to here have been asked for.';
COMMENT ON COLUMN market.series_state.computed_at IS 'When the series was last brought up to date; later than recorded_at while Dagster has not been told.';

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
