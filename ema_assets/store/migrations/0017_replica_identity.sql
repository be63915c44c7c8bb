-- Where all tables are published for logical replication, PostgreSQL refuses to delete from one without a key: performance
-- was not refreshed any more, and maintenance deleted nothing.

ALTER TABLE market.bar_rejected REPLICA IDENTITY FULL;
ALTER TABLE market.close_latency REPLICA IDENTITY FULL;
ALTER TABLE market.performance_refresh REPLICA IDENTITY FULL;
ALTER TABLE market.dagster_storage REPLICA IDENTITY FULL;
