-- Which timeframes there are follows from the watchlist, for each symbol by itself.

CREATE TABLE market.timeframe (
    timeframe text COLLATE "C" PRIMARY KEY,
    source    text COLLATE "C"
);
COMMENT ON TABLE market.timeframe IS 'Every timeframe that has ever been on.';
COMMENT ON COLUMN market.timeframe.source IS 'The timeframe that its bars are rolled up from; null when they are fetched.';

ALTER TABLE market.instrument
    ADD COLUMN timeframes text[] NOT NULL DEFAULT '{5m,15m,30m,1h,4h,1d}',
    ADD COLUMN bars_only  text[] NOT NULL DEFAULT '{}';
ALTER TABLE market.instrument ALTER COLUMN timeframes SET DEFAULT '{}';
COMMENT ON COLUMN market.instrument.timeframes IS 'The timeframes of which bars are kept up to date.';
COMMENT ON COLUMN market.instrument.bars_only IS 'Those of them on which nothing is computed: others are rolled up from them.';

ALTER TABLE market.series_state ADD COLUMN is_on boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN market.series_state.is_on IS 'False while the timeframe is switched off for the symbol: its rows stay, and nobody works on them.';
