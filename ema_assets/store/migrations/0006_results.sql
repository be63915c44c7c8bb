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
