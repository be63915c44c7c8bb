-- Which version of its code each asset is to be computed by. Written by the sync of the configuration; a host whose
-- files differ sees by it that it would compute something else.

ALTER TABLE market.asset ADD COLUMN code_version text;
COMMENT ON COLUMN market.asset.code_version IS 'The version of its code by which it is to be computed since the last sync. NULL before there was one.';
