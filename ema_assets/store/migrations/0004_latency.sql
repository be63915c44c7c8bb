-- From a bar's close to its strategy row: what a trader waits for.

CREATE TABLE market.close_latency (
    timeframe    text COLLATE "C" NOT NULL,
    closed_at    timestamptz NOT NULL,
    series       bigint NOT NULL,
    seconds      float8 NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE market.close_latency IS 'Seconds from the close of a bar to the commit of the strategy rows it led to, of so many series at once.';
CREATE INDEX close_latency_age ON market.close_latency (committed_at);
