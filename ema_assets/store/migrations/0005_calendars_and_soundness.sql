-- Calendars that a user corrects, volumes that nobody knows, and prices that may be negative.

CREATE TABLE market.calendar (
    calendar    text COLLATE "C" PRIMARY KEY,
    fingerprint text NOT NULL,
    known_through date
);
COMMENT ON TABLE market.calendar IS 'What the stored sessions of each calendar were made from.';
COMMENT ON COLUMN market.calendar.fingerprint IS 'Rules, library and corrections: the sessions are made anew when it changes.';
COMMENT ON COLUMN market.calendar.known_through IS 'Last day for which the exchange''s holidays are known; later weekdays count as sessions. Null when there is no such day.';

CREATE TABLE market.special_day (
    calendar   text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    is_session boolean NOT NULL,
    opens      time,
    closes     time,
    PRIMARY KEY (calendar, day),
    CHECK ((opens IS NULL) = (closes IS NULL) AND (is_session OR opens IS NULL))
);
COMMENT ON TABLE market.special_day IS 'Days on which an exchange differs from its calendar, as the watchlist says.';
COMMENT ON COLUMN market.special_day.opens IS 'Local at the exchange; null for the hours of the session before.';

CREATE TABLE market.file_span (
    symbol    text COLLATE "C" NOT NULL,
    timeframe text COLLATE "C" NOT NULL,
    first_ts  timestamptz NOT NULL,
    last_end  timestamptz NOT NULL CHECK (last_end > first_ts),
    PRIMARY KEY (symbol, timeframe, first_ts)
);
COMMENT ON TABLE market.file_span IS 'Where the bars of a rolled-up series are those of files. Nothing is rolled up there.';

ALTER TABLE market.instrument ADD COLUMN allow_negative boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN market.instrument.allow_negative IS 'Its prices may be zero or less, as those of spreads and of some futures.';

ALTER TABLE market.bar_correction ALTER COLUMN volume DROP NOT NULL;

-- The table of bars is made from its declaration, which has changed with this file.
ALTER TABLE IF EXISTS market.ohlc ALTER COLUMN volume DROP NOT NULL;
ALTER TABLE IF EXISTS market.ohlc DROP CONSTRAINT IF EXISTS ohlc_check;
DO $$
BEGIN
    IF to_regclass('market.ohlc') IS NOT NULL THEN
        ALTER TABLE market.ohlc ADD CONSTRAINT ohlc_check
            CHECK (low <= open AND low <= close AND high >= open AND high >= close AND volume >= 0);
    END IF;
END
$$;
UPDATE ema_assets.declaration SET sql = '"volume" float8' WHERE table_name = 'ohlc' AND part = 'volume';
UPDATE ema_assets.declaration
SET sql = 'CHECK (low <= open AND low <= close AND high >= open AND high >= close AND volume >= 0)'
WHERE table_name = 'ohlc' AND part = '(check 0)';
