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

-- What this database has computed so far; a sync replaces it by what is configured.
INSERT INTO market.asset (asset, position)
VALUES ('ohlc', 0), ('ema_signals', 1), ('ema_trend', 2), ('strategy_9_30_ema', 3);

INSERT INTO market.asset_input (asset, timeframe, reads, reads_timeframe, is_main)
SELECT i.asset, t.timeframe, i.reads, t.timeframe, i.is_main
FROM (VALUES ('ema_signals', 'ohlc', true), ('ema_trend', 'ema_signals', true),
             ('strategy_9_30_ema', 'ema_trend', true), ('strategy_9_30_ema', 'ohlc', false))
     AS i(asset, reads, is_main)
CROSS JOIN unnest(ARRAY['5m', '15m', '30m', '1h', '4h', '1d']) AS t(timeframe);
