-- Whether an alert is about made-up prices belongs to the alert: its symbol may be off the watchlist when it is sent.

ALTER TABLE market.alert ADD COLUMN is_synthetic boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN market.alert.is_synthetic IS 'True when the prices it is about are made up.';
