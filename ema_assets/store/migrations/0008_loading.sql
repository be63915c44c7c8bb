-- When a series came into the ledger and when it was first up to date: what an estimate of loading is made of.
ALTER TABLE market.series_state ADD COLUMN added_at timestamptz NOT NULL DEFAULT now(), ADD COLUMN loaded_at timestamptz;
UPDATE market.series_state SET loaded_at = recorded_at WHERE recorded_at IS NOT NULL;
COMMENT ON COLUMN market.series_state.added_at IS 'When the series came into the ledger.';
COMMENT ON COLUMN market.series_state.loaded_at IS 'When Dagster was told of it for the first time.';
