-- Providers: which one a symbol has, how many calls they may still be sent, and whether they answer at present.

ALTER TABLE market.instrument ADD COLUMN provider text COLLATE "C";
COMMENT ON COLUMN market.instrument.provider IS 'Null for the one of EMA_PROVIDER.';

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
