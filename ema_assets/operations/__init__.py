"""What people and jobs do beside a refresh: ingest files, sync the watchlist, maintain, refresh performance."""
