-- A sync has series begin again while a run waits for their bars: the answer is to a question of before.

ALTER TABLE market.series_state ADD COLUMN begun_again integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN market.series_state.begun_again IS 'How often bars were to be requested again, because the calendar, its sessions or the source of the symbol had changed.';
