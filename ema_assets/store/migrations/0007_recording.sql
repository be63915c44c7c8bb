-- What a series was computed from, and which event of Dagster's log told of it: Dagster compares the two to say whether
-- a partition is stale.

ALTER TABLE market.series_state
    ADD COLUMN inputs               jsonb,
    ADD COLUMN recorded_revision    bigint,
    ADD COLUMN recorded_event       bigint,
    ADD COLUMN recorded_first_event bigint;
COMMENT ON COLUMN market.series_state.inputs IS 'The revisions it was computed from, such as {"ohlc|5m": 12}: asset and timeframe of each input.';
COMMENT ON COLUMN market.series_state.recorded_revision IS 'The revision that Dagster was told of last; null when it was never told.';
COMMENT ON COLUMN market.series_state.recorded_event IS 'Id of the newest materialization of recorded_revision in Dagster''s event log.';
COMMENT ON COLUMN market.series_state.recorded_first_event IS 'Id of the first one: every event before it has an older revision.';

-- A series that is not dirty was computed from its inputs as they are. Dagster is told of every series once more.
UPDATE market.series_state s
SET inputs = CASE WHEN s.dirty_from IS NULL THEN (
        SELECT jsonb_object_agg(i.reads || '|' || i.reads_timeframe, up.revision)
        FROM market.asset_input i
        JOIN market.series_state up
          ON up.asset = i.reads AND up.timeframe = i.reads_timeframe AND up.symbol = s.symbol
        WHERE i.asset = s.asset AND i.timeframe = s.timeframe
    ) END,
    recorded_at = NULL
WHERE s.computed_at IS NOT NULL;
