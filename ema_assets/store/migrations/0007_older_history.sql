-- How far back a series reaches: what was asked for once, and the longer bars that stand before its first short one.

ALTER TABLE market.series_state ADD COLUMN asked_from timestamptz;
COMMENT ON COLUMN market.series_state.asked_from IS 'ohlc only. Of fetched bars: how far back they were asked for. Of rolled-up bars: from when on they are made of long history where there are no shorter bars; null when they need none.';

CREATE TABLE market.older_history (
    symbol     text COLLATE "C" NOT NULL REFERENCES market.instrument (symbol),
    timeframe  text COLLATE "C" NOT NULL,
    due_at     timestamptz,
    failures   integer NOT NULL DEFAULT 0,
    asked_from timestamptz,
    asked_at   timestamptz,
    bars       text COLLATE "C",
    last_end   timestamptz,
    note       text,
    PRIMARY KEY (symbol, timeframe)
);
COMMENT ON TABLE market.older_history IS 'What was asked for before the first bars of each fetched series, and with what result.';
COMMENT ON COLUMN market.older_history.due_at IS 'Older bars may be wanted, and are asked for from then on; null when that is settled.';
COMMENT ON COLUMN market.older_history.asked_from IS 'How far back long history was asked for; null when it was not.';
COMMENT ON COLUMN market.older_history.bars IS 'The timeframe of the long bars that are stored; null when there are none.';
COMMENT ON COLUMN market.older_history.last_end IS 'When the last of the stored long bars closed.';
COMMENT ON COLUMN market.older_history.note IS 'What became of it, in a sentence.';
CREATE INDEX older_history_due ON market.older_history (timeframe, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE market.long_bar (
    symbol    text COLLATE "C" NOT NULL,
    timeframe text COLLATE "C" NOT NULL,
    ts        timestamptz NOT NULL,
    open      float8 NOT NULL,
    high      float8 NOT NULL,
    low       float8 NOT NULL,
    close     float8 NOT NULL,
    volume    float8,
    source_id smallint NOT NULL REFERENCES market.source (id),
    stored_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timeframe, ts),
    CHECK (low <= open AND low <= close AND high >= open AND high >= close AND volume >= 0)
);
COMMENT ON TABLE market.long_bar IS 'Long history: longer bars as their provider sent them, from before the first bars of a fetched series. Longer timeframes are rolled up from them there.';
COMMENT ON COLUMN market.long_bar.timeframe IS 'The fetched series that they stand before; older_history.bars says how long they are.';

CREATE TABLE market.history_depth (
    timeframe text COLLATE "C" PRIMARY KEY,
    wanted    text NOT NULL
);
COMMENT ON TABLE market.history_depth IS 'How far back the series of each fetched timeframe shall reach, as last synced. When it changes, all of them are looked at again.';

-- Databases from before: each series is looked at once.
UPDATE market.series_state s SET asked_from = s.first_ts
FROM market.instrument i
WHERE i.symbol = s.symbol AND i.is_fetched AND s.asset = 'ohlc' AND s.asked_at IS NOT NULL;
INSERT INTO market.older_history (symbol, timeframe, due_at)
SELECT symbol, timeframe, timestamptz '1970-01-01 00:00+00' FROM market.series_state
WHERE asset = 'ohlc' AND asked_from IS NOT NULL;
