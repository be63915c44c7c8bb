"""SQL only: connection, migrations, bulk writes, delta reads, the ledger, the embedded server."""
