-- Which edition of a user's own code has failed for a series: runs with the same one leave it alone during its pause.

ALTER TABLE market.series_state ADD COLUMN failed_code text;
COMMENT ON COLUMN market.series_state.failed_code IS 'The edition of the user''s own code that failed last; null for code of the package.';
