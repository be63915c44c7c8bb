-- Which of Dagster's storages knows what the ledger says that Dagster was told: another one has to be told anew.

CREATE TABLE market.dagster_storage (
    storage_id text NOT NULL
);
COMMENT ON TABLE market.dagster_storage IS 'The id by which the storage of Dagster knows itself that is told of what is computed: one row at most.';
