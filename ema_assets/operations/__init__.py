"""Work of people and jobs other than a refresh: ingest files, sync the watchlist, maintain, refresh performance."""
