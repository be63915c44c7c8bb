-- Which targets of a channel with several have taken an alert: an attempt after one of them failed goes to the others no more.

ALTER TABLE market.alert_delivery ADD COLUMN taken_by text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN market.alert_delivery.taken_by IS 'Targets of the channel that have taken it, by hashes, while others have not.';
