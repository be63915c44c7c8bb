"""The ledger, `market.series_state`: how fresh each series of each asset is. One module per concern, SQL only.

staleness says what wants work, work how it is taken up and finished, sync what the configuration makes of the ledger,
recording what Dagster has been told, summary what people ask. Every function takes a Transaction, so that the ledger is
written together with the data it describes.
"""

from datetime import UTC, datetime

# "The beginning of time" for a series to be computed from nothing. Not -infinity, which polars cannot hold.
BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
