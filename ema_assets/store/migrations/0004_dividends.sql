-- What the amount of a dividend counts.

COMMENT ON COLUMN market.corporate_action.amount IS 'Of a dividend, per share as shares were counted at known_at: vendors divide old dividends by later splits.';
