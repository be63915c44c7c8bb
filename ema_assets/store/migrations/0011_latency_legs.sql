-- Where the time from a bar's close to its strategy row goes: which run it was, and how long it wrote.

ALTER TABLE market.close_latency
    ADD COLUMN run_id        text,
    ADD COLUMN write_seconds float8;
COMMENT ON COLUMN market.close_latency.run_id IS 'Dagster''s run that computed the rows; null when it was done without Dagster.';
COMMENT ON COLUMN market.close_latency.write_seconds IS 'Of the seconds, those between the computed trades and their last statement.';
