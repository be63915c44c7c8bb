-- How far and how finally a provider has answered, and who brought each bar: each series goes by its own answers.

ALTER TABLE market.instrument
    ADD COLUMN delay_seconds integer NOT NULL DEFAULT 0 CHECK (delay_seconds BETWEEN 0 AND 86400),
    ADD COLUMN silent_since timestamptz;
COMMENT ON COLUMN market.instrument.delay_seconds IS 'How far its provider was behind the exchange at the last answer that said so. Reset with the provider.';
COMMENT ON COLUMN market.instrument.silent_since IS 'Opening time of its last day, when several sessions have closed since and its provider has no bar of them.';

ALTER TABLE market.series_state
    ADD COLUMN asked_at      timestamptz,
    ADD COLUMN final_through timestamptz;
COMMENT ON COLUMN market.series_state.asked_at IS 'Fetched ohlc only: the market''s time at which its newest bars were last asked for and came.';
COMMENT ON COLUMN market.series_state.final_through IS 'Fetched ohlc only: bars that closed up to here were asked for when their provider no longer changes them.';
COMMENT ON COLUMN market.series_state.checked_through IS 'ohlc only: bars that closed up to here have been asked for, and their provider was complete so far.';

CREATE INDEX series_state_asked ON market.series_state (timeframe, asked_at) WHERE asset = 'ohlc';

CREATE TABLE market.source (
    id   smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);
COMMENT ON TABLE market.source IS 'Providers and files that have brought bars: ohlc.source_id.';
